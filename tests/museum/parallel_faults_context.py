"""Faults of context parallelism: whose tokens are where."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from llmlib.training.parallel.context_parallel import zigzag_shards
from museum.exhibit import Exhibit

# Causal attention of all queries, [T, K] each, whose rows lie on so many processes.

Attended = Callable[[Tensor, Tensor, Tensor, int], Tensor]
Sees = Callable[[int, int], Tensor]


def _round_the_ring(q: Tensor, k: Tensor, v: Tensor, shards: list[Tensor], sees: Sees) -> Tensor:
    """Let each process's queries meet everybody's keys; `sees(own, theirs)` is the mask."""
    out = torch.empty_like(q)
    for own, positions in enumerate(shards):
        masks = torch.cat([sees(own, theirs) for theirs in range(len(shards))], dim=1)
        order = torch.cat(shards)
        scores = (q[positions] @ k[order].T / math.sqrt(q.shape[1])).masked_fill(~masks, -torch.inf)
        out[positions] = scores.softmax(dim=1) @ v[order]
    return out


def _masked_by_halves(q: Tensor, k: Tensor, v: Tensor, size: int) -> Tensor:
    pieces = torch.arange(len(q)).chunk(2 * size)
    shards = [torch.cat([pieces[r], pieces[2 * size - 1 - r]]) for r in range(size)]

    def sees(own: int, theirs: int) -> Tensor:
        mask = torch.ones(len(shards[own]), len(shards[theirs]), dtype=torch.bool)
        half = len(shards[own]) // 2
        if theirs == own:
            return mask.tril()
        if theirs < own:
            mask[:, half:] = False  # of an earlier process the early piece
        else:
            mask[:half] = False  # a later process is met by the late piece
        return mask

    return _round_the_ring(q, k, v, shards, sees)


def _masked_by_positions(q: Tensor, k: Tensor, v: Tensor, size: int) -> Tensor:
    shards = zigzag_shards(len(q), size)
    return _round_the_ring(
        q, k, v, shards, lambda own, theirs: shards[own].unsqueeze(1) >= shards[theirs]
    )


def _random(length: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    q, k, v = (torch.randn(length, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k, v


def _plausible_where_pieces_are_equal(attended: Attended) -> None:
    q, k, v = _random(16)
    scores = q @ k.T / math.sqrt(5)
    mask = torch.ones(16, 16, dtype=torch.bool).tril()
    whole = scores.masked_fill(~mask, -torch.inf).softmax(dim=1) @ v
    for size in (1, 2, 4):
        torch.testing.assert_close(attended(q, k, v, size), whole)
    assert attended(*_random(15), 2).isfinite().all()


def _nothing_is_seen_of_later_tokens(attended: Attended) -> None:
    q, k, v = _random(15)
    before = attended(q, k, v, 2)
    later = v.clone()
    later[4:] += 1
    assert torch.equal(attended(q, k, later, 2)[:4], before[:4])


CONTEXT_FAULTS = [
    Exhibit(
        name="Zigzag pieces that are not equally long",
        threads=("jzhang38/EasyContext#47",),
        fault="A row is cut by `chunk` into two pieces a process, the last of which may be "
        "shorter, and the middle of what a process holds is taken for the border between its two "
        "pieces: the last token of the early piece counts as one of the late piece.",
        looks="Right at every length that twice the processes divide. At others the forward pass "
        "gives numbers like any others: a token attends to what comes after it. In the thread it "
        "was noticed only because the backward pass then adds pieces of unequal lengths.",
        faulty=_masked_by_halves,
        sound=_masked_by_positions,
        plausible=_plausible_where_pieces_are_equal,
        check=_nothing_is_seen_of_later_tokens,
    ),
]
