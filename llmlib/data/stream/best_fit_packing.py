r"""Documents packed whole into sequences, cut only where they are longer than one.

Concatenation fills every sequence and cuts documents wherever a boundary falls: what a sentence
refers to may lie in another sequence, and the model learns to make it up. Best-fit packing first
cuts documents longer than a sequence into full ones and a rest, then packs the pieces as bins:
the longest first, each into the sequence whose free space it leaves smallest. As lengths are whole
numbers up to the sequence's, a segment tree over free spaces answers "smallest space of at least
$\ell$" in $O(\log L)$, and pieces of equal length go into equal bins together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int64


@dataclass(frozen=True)
class Packing:
    """Which stretch of which document lies where.

    One entry for each piece, in the order of rows and places within them.
    """

    seq_len: int
    n_rows: int
    row: Int64[np.ndarray, " pieces"]
    """Row of each piece."""
    place: Int64[np.ndarray, " pieces"]
    """Where in the row it begins."""
    document: Int64[np.ndarray, " pieces"]
    """Its document."""
    begin: Int64[np.ndarray, " pieces"]
    """Where in the document it begins; above 0 only for documents that had to be cut."""
    length: Int64[np.ndarray, " pieces"]

    @property
    def padding(self) -> float:
        """Share of the rows' tokens that belongs to no document."""
        return 1 - int(self.length.sum()) / (self.n_rows * self.seq_len)

    @property
    def truncations(self) -> int:
        """Number of cuts within documents: pieces that do not begin their document."""
        return int((self.begin > 0).sum())

    def rows(
        self, documents: Sequence[Int[np.ndarray, " _"]], pad: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Write the rows out; `pad` stands in the places that stay free.

        Yields:
            Each row's tokens, the number of each token's document (-1 where it is padding;
            attention may pass only between equal numbers), and its position, which begins at 0 with
            every piece.

        Raises:
            ValueError: If a document is shorter than what was packed of it.
        """
        firsts = np.searchsorted(self.row, np.arange(self.n_rows + 1))
        for row in range(self.n_rows):
            tokens = np.full(self.seq_len, pad, dtype=np.int64)
            owners = np.full(self.seq_len, -1, dtype=np.int64)
            positions = np.zeros(self.seq_len, dtype=np.int64)
            for piece in range(firsts[row], firsts[row + 1]):
                place, length = int(self.place[piece]), int(self.length[piece])
                document, begin = int(self.document[piece]), int(self.begin[piece])
                part = np.asarray(documents[document])[begin : begin + length]
                if len(part) < length:
                    raise ValueError(f"document {document} is shorter than when it was packed")
                tokens[place : place + length] = part
                owners[place : place + length] = document
                positions[place : place + length] = np.arange(length)
            yield tokens, owners, positions


def pack_best_fit(lengths: Sequence[int] | Int[np.ndarray, " documents"], seq_len: int) -> Packing:
    """Pack documents into rows by best-fit decreasing; the result depends on the lengths alone.

    Args:
        lengths: Tokens of each document, a separator included if there is to be one; documents of
            length 0 are left out.

    Raises:
        ValueError: If there is nothing to pack, or a number is negative.

    Example:
        >>> packing = pack_best_fit([3, 9, 2, 1], seq_len=5)
        >>> packing.n_rows, packing.truncations, packing.padding
        (3, 1, 0.0)
        >>> packing.document.tolist(), packing.begin.tolist()
        ([1, 1, 3, 0, 2], [0, 5, 0, 0, 0])

    References:
        Ding et al. (2024), Fewer Truncations Improve Language Modeling, section 3 and appendix A
        (the segment tree).
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if seq_len < 1 or (sizes < 0).any():
        raise ValueError(f"seq_len={seq_len} must be at least 1 and lengths not negative")
    if not sizes.sum():
        raise ValueError("nothing to pack: every document is empty")
    document, begin, length = _pieces(sizes, seq_len)
    order = np.argsort(-length, kind="stable")
    row_of = np.empty(len(length), dtype=np.int64)
    row_of[order], n_rows = _assign(length[order], seq_len)
    # Within a row pieces lie in the order in which they came, the longest first.
    by_row = order[np.argsort(row_of[order], kind="stable")]
    rows, sizes_in = row_of[by_row], length[by_row]
    ends = np.cumsum(sizes_in)
    starts_of_rows = np.searchsorted(rows, np.arange(n_rows))
    before = np.concatenate([np.zeros(1, dtype=np.int64), ends])[starts_of_rows]
    place = ends - sizes_in - before[rows]
    return Packing(seq_len, n_rows, rows, place, document[by_row], begin[by_row], sizes_in)


def concatenation_truncations(
    lengths: Sequence[int] | Int[np.ndarray, " documents"], seq_len: int
) -> int:
    """Count the rows' boundaries that fall within documents when these are concatenated.

    Example:
        >>> concatenation_truncations([3, 9, 2, 1], seq_len=5)
        2
    """
    ends = np.cumsum(np.asarray(lengths, dtype=np.int64))
    boundaries = np.arange(seq_len, int(ends[-1]) if len(ends) else 0, seq_len)
    return int((~np.isin(boundaries, ends)).sum())


def _pieces(sizes: np.ndarray, seq_len: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents longer than a row into full rows and a rest."""
    counts = -(-sizes // seq_len)
    document = np.repeat(np.arange(len(sizes)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = number * seq_len
    return document, begin, np.minimum(sizes[document] - begin, seq_len)


def _assign(lengths: np.ndarray, seq_len: int) -> tuple[np.ndarray, int]:
    """Give each piece, longest first, a row; return the rows and how many there are."""
    rows = np.empty(len(lengths), dtype=np.int64)
    free: list[list[int]] = [[] for _ in range(seq_len + 1)]  # rows by their free space
    spaces = _SpaceTree(seq_len)
    n_rows, at = 0, 0
    for length, count in zip(*np.unique(-lengths, return_counts=True), strict=True):
        size, left = -int(length), int(count)
        while left:
            space = spaces.smallest(size)
            if space is None:
                per_row = seq_len // size
                opened = -(-left // per_row)
                rows[at : at + left] = n_rows + np.arange(left) // per_row
                rest = left - (opened - 1) * per_row
                fresh = range(n_rows, n_rows + opened)
                _put(free, spaces, seq_len - per_row * size, fresh[:-1])
                _put(free, spaces, seq_len - rest * size, fresh[-1:])
                n_rows, at, left = n_rows + opened, at + left, 0
                continue
            # Best fit fills a row as long as the size fits: its space only becomes smaller.
            waiting = free[space]
            per_row = space // size
            taken = min(len(waiting), -(-left // per_row))
            used = waiting[len(waiting) - taken :]
            del waiting[len(waiting) - taken :]
            if not waiting:
                spaces.remove(space)
            placed = min(left, taken * per_row)
            rows[at : at + placed] = np.repeat(np.array(used), per_row)[:placed]
            rest = placed - (taken - 1) * per_row
            _put(free, spaces, space - per_row * size, used[:-1])
            _put(free, spaces, space - rest * size, used[-1:])
            at, left = at + placed, left - placed
    return rows, n_rows


def _put(free: list[list[int]], spaces: "_SpaceTree", space: int, rows: Sequence[int]) -> None:
    if space and rows:
        free[space].extend(rows)
        spaces.add(space)


class _SpaceTree:
    """The set of free spaces that occur: a binary tree whose nodes hold the largest below them."""

    def __init__(self, largest: int):
        self._first = 1 << largest.bit_length()
        self._best = [0] * (2 * self._first)

    def add(self, space: int) -> None:
        node = self._first + space
        while node and self._best[node] < space:
            self._best[node] = space
            node >>= 1

    def remove(self, space: int) -> None:
        node = self._first + space
        self._best[node] = 0
        node >>= 1
        while node:
            self._best[node] = max(self._best[2 * node], self._best[2 * node + 1])
            node >>= 1

    def smallest(self, size: int) -> int | None:
        # Up from the size's own leaf to the first subtree on its right that holds a space, then
        # down to that subtree's smallest.
        node = self._first + size
        if self._best[node]:
            return size
        while node > 1:
            if node % 2 == 0 and self._best[node + 1]:
                node += 1
                break
            node >>= 1
        else:
            return None
        while node < self._first:
            node = 2 * node if self._best[2 * node] else 2 * node + 1
        return self._best[node]
