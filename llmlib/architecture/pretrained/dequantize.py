"""Quantized weights back to float32: each row of a tensor is a row of small blocks.

A block keeps 32 weights (or 256, in the `K` types) as small integers `q` with a scale `d` and,
in the `_1` types, a minimum `m`: `w = d q` or `w = d q + m`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantization:
    """A way to store weights."""

    name: str
    block: int
    """Weights a block."""
    nbytes: int
    """Bytes a block."""
    decode: Callable[[np.ndarray], np.ndarray]
    """Turns blocks, one a line, into weights, one block a line."""

    @property
    def bits_per_weight(self) -> float:
        """Average number of bits a weight takes, scales included."""
        return 8 * self.nbytes / self.block


def dequantize(rows: np.ndarray, kind: int) -> np.ndarray:
    """Turn the bytes of a tensor's rows into float32 numbers.

    Args:
        rows: Bytes as they lie in the file, one line a row.
        kind: Number of the type in the GGUF format, a key of `QUANTIZATIONS`.

    Raises:
        ValueError: If the type is not supported or the bytes are not whole blocks.

    Example:
        >>> block = np.float16([0.5, -1.0]).view(np.uint8).tolist() + [0x21] * 16  # Q4_1
        >>> weights = dequantize(np.array([block], dtype=np.uint8), 3)
        >>> weights[0, [0, 15, 16, 31]].tolist()
        [-0.5, -0.5, 0.0, 0.0]

    References:
        The formats stand in ggml-common.h and ggml-quants.c of the ggml project.
    """
    if kind not in QUANTIZATIONS:
        raise ValueError(f"type {kind} is not supported: use one of {sorted(QUANTIZATIONS)}")
    quantization = QUANTIZATIONS[kind]
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] % quantization.nbytes:
        raise ValueError(
            f"{quantization.name} needs uint8 rows of whole blocks of {quantization.nbytes} bytes, "
            f"not {rows.dtype} of shape {rows.shape}"
        )
    blocks = rows.reshape(-1, quantization.nbytes)
    return quantization.decode(blocks).reshape(len(rows), -1)


def _half(data: np.ndarray) -> np.ndarray:
    """Read pairs of bytes as float16 numbers: a column each."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def _nibbles(data: np.ndarray) -> np.ndarray:
    """Return the low halves of the bytes, then the high halves."""
    width = data.shape[1]
    out = np.empty((len(data), 2 * width), dtype=np.float32)
    np.bitwise_and(data, 15, out=out[:, :width], casting="unsafe")
    np.right_shift(data, 4, out=out[:, width:], casting="unsafe")
    return out


def _fifth_bits(data: np.ndarray) -> np.ndarray:
    """Return 16 for each set bit of the four bytes, lowest first, else 0."""
    return np.unpackbits(data, axis=1, bitorder="little") * np.float32(16)


def _f32(blocks: np.ndarray) -> np.ndarray:
    return blocks.view("<f4").astype(np.float32)


def _bf16(blocks: np.ndarray) -> np.ndarray:
    # The upper half of a float32's bits.
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _q4_0(blocks: np.ndarray) -> np.ndarray:
    weights = _nibbles(blocks[:, 2:])
    weights -= 8
    weights *= _half(blocks[:, :2])
    return weights


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    weights = _nibbles(blocks[:, 4:])
    weights *= _half(blocks[:, :2])
    weights += _half(blocks[:, 2:4])
    return weights


def _q5_0(blocks: np.ndarray) -> np.ndarray:
    weights = _nibbles(blocks[:, 6:]) + _fifth_bits(blocks[:, 2:6])
    return (weights - 16) * _half(blocks[:, :2])


def _q5_1(blocks: np.ndarray) -> np.ndarray:
    weights = _nibbles(blocks[:, 8:]) + _fifth_bits(blocks[:, 4:8])
    return weights * _half(blocks[:, :2]) + _half(blocks[:, 2:4])


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    weights = blocks[:, 2:].view(np.int8).astype(np.float32)
    weights *= _half(blocks[:, :2])
    return weights


def _q4_k(blocks: np.ndarray) -> np.ndarray:
    """Eight groups of 32 weights, whose scales and minima are themselves 6-bit numbers."""
    n = len(blocks)
    d, d_min, packed = _half(blocks[:, :2]), _half(blocks[:, 2:4]), blocks[:, 4:16]
    low, middle, high = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    # Groups 0-3 are six plain bits; groups 4-7 borrow the two upper bits of the others' bytes.
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1)
    minima = np.concatenate([middle & 63, (high >> 4) | ((middle >> 6) << 4)], axis=1)
    quants = blocks[:, 16:].reshape(n, 4, 32)
    q = np.stack([quants & 15, quants >> 4], axis=2).reshape(n, 8, 32).astype(np.float32)
    weights = q * (d * scales)[:, :, None] - (d_min * minima)[:, :, None]
    return weights.reshape(n, 256)


def _q6_k(blocks: np.ndarray) -> np.ndarray:
    """Sixteen groups of 16 weights of six bits: four in `low`, two in `high`."""
    n = len(blocks)
    low = blocks[:, :128].reshape(n, 2, 64)
    high = blocks[:, 128:192].reshape(n, 2, 1, 32)
    scales = blocks[:, 192:208].view(np.int8)
    four = np.stack([low & 15, low >> 4], axis=2).reshape(n, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)[None, None, :, None]
    two = (high >> shifts) & 3
    q = (four | (two << 4)).astype(np.float32) - 32
    scale = _half(blocks[:, 208:210]) * scales  # [n, 16]
    return (q.reshape(n, 16, 16) * scale[:, :, None]).reshape(n, 256)


QUANTIZATIONS: dict[int, Quantization] = {
    0: Quantization("F32", 1, 4, _f32),
    1: Quantization("F16", 1, 2, _half),
    2: Quantization("Q4_0", 32, 18, _q4_0),
    3: Quantization("Q4_1", 32, 20, _q4_1),
    6: Quantization("Q5_0", 32, 22, _q5_0),
    7: Quantization("Q5_1", 32, 24, _q5_1),
    8: Quantization("Q8_0", 32, 34, _q8_0),
    12: Quantization("Q4_K", 256, 144, _q4_k),
    14: Quantization("Q6_K", 256, 210, _q6_k),
    30: Quantization("BF16", 1, 2, _bf16),
}
"""The supported types by their number in the GGUF format."""
