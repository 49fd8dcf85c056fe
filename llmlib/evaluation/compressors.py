"""General compressors as a baseline for language models."""

import lzma

LARGEST_DICTIONARY = 1536 * 2**20  # bytes; the limit of the LZMA2 encoder
SMALLEST_DICTIONARY = 4096


def xz_size(data: bytes) -> int:
    """Return the size of data compressed as `xz -9e` does, in bytes.

    The dictionary is enlarged to hold all the data, so that every repetition can be found however
    far back it lies. Headers and checksums (a few dozen bytes) are not counted.

    Raises:
        ValueError: If the data is longer than the largest dictionary, of 1.5 GiB.
    """
    if len(data) > LARGEST_DICTIONARY:
        raise ValueError(f"data of {len(data)} bytes is longer than xz's 1.5 GiB dictionary")
    lzma2 = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": max(SMALLEST_DICTIONARY, len(data)),
    }
    return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=[lzma2]))


def primed_xz_bits_per_byte(train: bytes, held_out: bytes) -> float:
    """Return what held-out text costs a compressor that has already seen the training text.

    It is the growth of the compressed file when the held-out text is appended to the training
    text. All of the held-out text is one piece, so its later documents may refer to its earlier
    ones: this favours xz over a model that meets each document alone.

    Raises:
        ValueError: If there is no held-out text.

    Example:
        >>> primed_xz_bits_per_byte(bytes(range(256)) * 9, bytes(range(256)) * 9) < 0.1
        True
    """
    if not held_out:
        raise ValueError("there is no held-out text to compress")
    grown_bytes = xz_size(train + held_out) - xz_size(train)
    return 8 * grown_bytes / len(held_out)
