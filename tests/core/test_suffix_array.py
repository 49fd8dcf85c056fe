"""Suffix arrays and their common prefixes against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.core.suffix_array import common_prefixes, sort_keys, suffix_array

REPETITIVE = st.one_of(
    st.binary(max_size=61),
    st.lists(st.sampled_from([b"ab", b"a", b"abab", b"\xff", b"xyz" * 5]), max_size=17).map(
        b"".join
    ),
)


def common_prefix(a: bytes, b: bytes) -> int:
    return next(
        (k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


@given(REPETITIVE)
@settings(max_examples=100, deadline=None)
def test_the_array_is_the_sorted_suffixes_and_their_common_prefixes(data):
    order = suffix_array(data)
    expected = sorted(range(len(data)), key=lambda position: data[position:])
    assert order.tolist() == expected
    lengths = [
        common_prefix(data[a:], data[b:]) for a, b in zip(expected, expected[1:], strict=False)
    ]
    assert common_prefixes(data, order).tolist() == [0, *lengths][: len(data)]
    assert (
        common_prefixes(data, order, limit=5).tolist()
        == [0, *(min(5, k) for k in lengths)][: len(data)]
    )


@given(st.lists(st.integers(-3, 100_000), max_size=31), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_token_ids_sort_too(ids, times):
    ids = ids * times
    expected = sorted(range(len(ids)), key=lambda position: ids[position:])
    assert suffix_array(np.array(ids, np.int64)).tolist() == expected


@given(REPETITIVE, st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_a_limited_depth_sorts_at_least_that_far(data, depth):
    order = suffix_array(data, depth).tolist()
    assert sorted(order) == list(range(len(data)))
    prefixes = [data[position : position + depth] for position in order]
    assert prefixes == sorted(prefixes)


def test_the_last_symbol_within_the_depth_still_counts():
    # Two symbols pack 31 to a key: the two suffixes differ only in the first symbol behind it.
    order = suffix_array(b"a" * 31 + b"b" + b"a" * 33, depth=32).tolist()
    assert order.index(32) < order.index(0)


def test_keys_that_differ_in_every_bit_share_no_prefix():
    # In sorted order a then 31 b's meets b then 31 a's: 62 bits that differ, more than a float64
    # tells apart.
    data = b"a" + b"b" * 31 + b"a" * 31
    order = suffix_array(data)
    pairs = zip(order, order[1:], strict=False)
    expected = [0, *(common_prefix(data[a:], data[b:]) for a, b in pairs)]
    assert common_prefixes(data, order).tolist() == expected


def test_long_repeats_and_all_byte_values():
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, 5003, dtype=np.uint8).tobytes()
    data = block + b"-" + block
    order = suffix_array(data)
    assert all(
        data[a : a + 6000] < data[b : b + 6000] for a, b in zip(order, order[1:], strict=False)
    )
    assert common_prefixes(data, order).max() == 5003
    assert suffix_array(b"a" * 1009).tolist() == list(range(1008, -1, -1))


def test_packed_keys_fill_63_bits_and_sort_like_their_symbols():
    for n_codes, width in ((1, 63), (2, 31), (127, 9), (128, 7), (255, 7), (256, 7), (65_535, 3)):
        assert sort_keys(np.array([n_codes] * 100), n_codes)[1] == width
        assert (sort_keys(np.array([n_codes] * 100), n_codes)[0] > 0).all()


def test_a_depth_of_nothing_is_refused():
    with pytest.raises(ValueError, match="depth=0"):
        suffix_array(b"ab", 0)
