"""xz as a baseline: priming helps, random bytes do not compress."""

import lzma

import numpy as np
import pytest

from llmlib.evaluation import primed_xz_bits_per_byte, xz_size

rng = np.random.default_rng(11)


def test_random_bytes_cost_eight_bits() -> None:
    noise = rng.bytes(20_011)
    assert primed_xz_bits_per_byte(b"", noise) == pytest.approx(8, abs=0.02)


def test_text_seen_in_training_costs_almost_nothing_however_far_back() -> None:
    page = rng.bytes(5_003)
    far = page + rng.bytes(70_001)
    assert primed_xz_bits_per_byte(far, page) < 0.5  # a match is at most 273 bytes long
    assert primed_xz_bits_per_byte(far, rng.bytes(5_003)) > 7.9


def test_sizes_are_those_of_the_xz_format_without_its_headers() -> None:
    text = b"".join(b"line %d of a plain text\n" % (i * i) for i in range(997))
    whole = len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    assert 0 < whole - xz_size(text) < 100


def test_empty_held_out_text_is_named() -> None:
    with pytest.raises(ValueError, match="no held-out text"):
        primed_xz_bits_per_byte(b"abc", b"")
