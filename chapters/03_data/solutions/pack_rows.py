from collections.abc import Sequence


def pack_rows(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    """Pack documents whole into rows: the longest first, each where the least room is left."""
    rows: list[list[int]] = []
    free: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fits = [row for row, space in enumerate(free) if space >= lengths[i]]
        if not fits:
            fits = [len(rows)]
            rows.append([])
            free.append(seq_len)
        row = min(fits, key=lambda row: free[row])
        rows[row].append(i)
        free[row] -= lengths[i]
    return sorted(sorted(row) for row in rows)
