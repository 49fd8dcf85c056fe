from collections.abc import Sequence


def first_of_cluster(n_items: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Name each item by the smallest one that a chain of pairs leads to."""
    parent = list(range(n_items))

    def root(item: int) -> int:
        while parent[item] != item:
            item = parent[item]
        return item

    for a, b in pairs:
        a, b = root(a), root(b)
        parent[max(a, b)] = min(a, b)
    return [root(item) for item in range(n_items)]
