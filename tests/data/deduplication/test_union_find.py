"""Connected components against a walk over the graph."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data.deduplication.near.union_find import clusters


def by_walking(n_items: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Smallest item reachable from each, by depth-first search."""
    neighbours: dict[int, set[int]] = {item: set() for item in range(n_items)}
    for a, b in pairs:
        neighbours[a].add(b)
        neighbours[b].add(a)
    names = [-1] * n_items
    for start in range(n_items):
        stack = [start]
        while stack:
            item = stack.pop()
            if names[item] < 0:
                names[item] = start
                stack += neighbours[item]
    return names


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 31).flatmap(
        lambda n: st.tuples(
            st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))
        )
    ),
    st.randoms(use_true_random=False),
)
def test_components_and_their_names_equal_a_walk_in_any_order_of_pairs(graph, random):
    n_items, pairs = graph
    expected = by_walking(n_items, pairs)
    random.shuffle(pairs)
    turned = [(b, a) if random.random() < 0.5 else (a, b) for a, b in pairs]
    ends = np.array(turned, np.int64).reshape(-1, 2)
    assert clusters(n_items, ends[:, 0], ends[:, 1]).tolist() == expected


def test_a_long_chain_and_a_star_collapse_to_their_smallest_item_at_once():
    n = 20_011
    begun = time.process_time()
    order = np.random.default_rng(0).permutation(n)
    assert not clusters(n, order[:-1], order[1:]).any()
    assert not clusters(n, np.full(n - 1, n - 1), np.arange(n - 1)).any()
    assert time.process_time() - begun < 2  # 0.01 s; a round for each leaf takes 7 s


def test_items_out_of_range_are_refused():
    with pytest.raises(ValueError, match="items 0 to 4"):
        clusters(5, np.array([1]), np.array([5]))
    with pytest.raises(ValueError, match="not -1 to 2"):
        clusters(5, np.array([-1]), np.array([2]))
