"""Checks of the exercises of chapters/05_training/08_splitting_layers.ipynb."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llmlib.teaching.authoring import Args, Exercise, args, normal

NOTEBOOK = "05_training/08_splitting_layers"

# A vocabulary that is padded until its shares are equal and round


def _padded_vocabulary(
    vocab_size: int, processes: int, multiple: int, *, whole: Callable[[float], int] = math.ceil
) -> tuple[int, list[int]]:
    share = multiple * whole(vocab_size / (processes * multiple))
    words = [min(share, max(0, vocab_size - rank * share)) for rank in range(processes)]
    return share * processes, words


def _rounded_alone(vocab_size: int, processes: int, multiple: int) -> tuple[int, list[int]]:
    rows = multiple * math.ceil(vocab_size / multiple)
    share = rows // processes
    return rows, [min(share, max(0, vocab_size - rank * share)) for rank in range(processes)]


def _spread(vocab_size: int, processes: int, multiple: int) -> tuple[int, list[int]]:
    rows, _ = _padded_vocabulary(vocab_size, processes, multiple)
    return rows, [len(part) for part in torch.arange(vocab_size).tensor_split(processes)]


padded_vocabulary = Exercise(
    "padded_vocabulary",
    title="equal shares of a vocabulary",
    reference=_padded_vocabulary,
    hints=(
        "What has to be a multiple is the share of one process.",
        "The share is the smallest multiple of `multiple` of which `processes` hold all words.",
        "share = multiple * ceil(V / (P * multiple)); process p has the words from p * share on.",
    ),
    cases={
        "ten words on two processes": args(10, 2, 4),
        "GPT-2's vocabulary on eight processes": args(50257, 8, 128),
        "nothing to pad": args(1024, 4, 128),
        "so few words that some processes have padding alone": args(5, 4, 2),
        "one process": args(50257, 1, 64),
        "shares of any size": args(29, 3, 1),
    },
    mistakes={
        "the whole is round, a share is not: round the share": _rounded_alone,
        "that is one multiple too many where nothing needs padding": (
            lambda v, p, m: _padded_vocabulary(v, p, m, whole=lambda x: math.floor(x) + 1)
        ),
        "some words are left over: round up": (
            lambda v, p, m: _padded_vocabulary(v, p, m, whole=math.floor)
        ),
        "the padding stands at the end, so the first processes are full": _spread,
        "you counted the padding of each process; count its words": lambda v, p, m: (
            (found := _padded_vocabulary(v, p, m))[0],
            [found[0] // p - words for words in found[1]],
        ),
    },
)


# The norm of a gradient of which every process has something else

Gradients = Sequence[Sequence[Tensor]]


def _squares(gradients: Sequence[Tensor]) -> float:
    return sum(float(g.double().square().sum()) for g in gradients)


def _norm_of_parts(split: Gradients, partial: Gradients, copied: Gradients) -> float:
    summed = [torch.stack(each).sum(dim=0) for each in zip(*partial, strict=True)]
    return math.sqrt(sum(map(_squares, split)) + _squares(summed) + _squares(copied[0]))


def _copies_counted(split: Gradients, partial: Gradients, copied: Gradients) -> float:
    return _norm_of_parts(split, partial, [[g for own in copied for g in own]])


def _summands_squared(split: Gradients, partial: Gradients, copied: Gradients) -> float:
    return _norm_of_parts([*split, *partial], [[] for _ in partial], copied)


def _first_process(split: Gradients, partial: Gradients, copied: Gradients) -> float:
    return _norm_of_parts(split[:1], partial[:1], copied)


def _sum_of_norms(split: Gradients, partial: Gradients, copied: Gradients) -> float:
    none = [[] for _ in split]
    split_norms = [_norm_of_parts([own], [[]], [[]]) for own in split]
    return sum(split_norms) + _norm_of_parts(none, partial, none) + _norm_of_parts(
        none, none, copied
    )  # fmt: skip


def _held(processes: int, *, summands: bool = True, copies: bool = True) -> Args:
    split = [
        [normal(3, 2 + rank, seed=rank), normal(5, seed=10 + rank)] for rank in range(processes)
    ]
    partial = [[normal(7, seed=20 + rank)] if summands else [] for rank in range(processes)]
    copied = [[normal(11, seed=30)] if copies else [] for _ in range(processes)]
    return args(split, partial, copied)


norm_of_parts = Exercise(
    "norm_of_parts",
    title="the norm of a gradient that lies in parts",
    points=2,
    reference=_norm_of_parts,
    hints=(
        "Write down the whole gradient as one long vector. Which of its numbers does who have?",
        "A number that all have is one number. A number of which all have a summand is one number "
        "too, and has to be added up before it is squared.",
        "Squares of all split parts, of the copies of one process, and of the summed partials; "
        "then one root.",
    ),
    cases={
        "split parts alone": _held(2, summands=False, copies=False),
        "split and copied": _held(3, summands=False),
        "all three kinds": _held(3),
        "summands that cancel": args(
            [[torch.ones(2)], [torch.ones(3)]],
            [[torch.tensor([4.0, -1.0])], [torch.tensor([-4.0, 1.0])]],
            [[torch.ones(4)], [torch.ones(4)]],
        ),
        "one process": _held(1),
    },
    mistakes={
        "a copied gradient is one gradient, however many processes hold it": _copies_counted,
        "add the summands of a partial gradient up before you square": _summands_squared,
        "each process has other parts: put those of all together": _first_process,
        "norms do not add up; squares do": _sum_of_norms,
        "take the root of the summed squares": lambda *a: _norm_of_parts(*a) ** 2,
    },
)


# Tokens' copies that leave their machine

Chosen = Sequence[Sequence[Sequence[int]]]


def _rows_between_machines(
    chosen: Chosen, experts_each: int, machine: int, *, away: bool = True, by: str = "machine"
) -> tuple[int, int]:
    apart = once = 0
    for process, tokens in enumerate(chosen):
        home = process // machine
        for experts in tokens:
            places = [expert // experts_each for expert in experts]
            left = [place for place in places if place // machine != home or not away]
            apart += len(left)
            once += len({place // machine if by == "machine" else place for place in left})
    return apart, once


def _other_processes(chosen: Chosen, experts_each: int, machine: int) -> tuple[int, int]:
    return _rows_between_machines(chosen, experts_each, 1)


def _experts_for_processes(chosen: Chosen, experts_each: int, machine: int) -> tuple[int, int]:
    return _rows_between_machines(chosen, 1, machine)


def _machines_of_all(chosen: Chosen, experts_each: int, machine: int) -> tuple[int, int]:
    apart, _ = _rows_between_machines(chosen, experts_each, machine)
    once = 0
    for process, tokens in enumerate(chosen):
        places = {expert // experts_each // machine for experts in tokens for expert in experts}
        once += len(places - {process // machine})
    return apart, once


def _chosen(processes: int, n_experts: int, k: int, seed: int) -> list[list[list[int]]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randperm(n_experts, generator=generator)[:k].tolist() for _ in range(5)]
        for _ in range(processes)
    ]


rows_between_machines = Exercise(
    "rows_between_machines",
    title="copies that cross the slow network",
    points=2,
    reference=_rows_between_machines,
    hints=(
        "Expert e is on process e // experts_each, and process p on machine p // machine.",
        "A copy crosses where the expert's machine is not the token's own.",
        "Sent once, a token crosses as often as there are *different* foreign machines among those "
        "of its experts.",
    ),
    cases={
        "two tokens of one process: one stays, one leaves": args(
            [[[2, 4], [6, 9]], [], [], []], 3, 2
        ),
        "experts at home and away": args([[[0, 3, 5]], [[1, 7, 6]], [[0, 4, 2]], []], 2, 2),
        "two machines of four": args(_chosen(8, 16, 4, seed=1), 2, 4),
        "four machines of two": args(_chosen(8, 24, 8, seed=2), 3, 2),
        "one machine: nothing crosses": args(_chosen(4, 8, 2, seed=3), 2, 4),
        "every process a machine": args(_chosen(3, 6, 3, seed=4), 2, 1),
    },
    mistakes={
        "copies for experts on the token's own machine do not cross": (
            lambda *a: _rows_between_machines(*a, away=False)
        ),
        "a copy for another process of the same machine does not cross": _other_processes,
        "sent once means once to each machine, not once to each process": (
            lambda *a: _rows_between_machines(*a, by="process")
        ),
        "each token has to cross for itself: two tokens are two rows": _machines_of_all,
        "an expert's number is not its process's: a process has several": _experts_for_processes,
    },
)


# The entropy of a distribution over words that lie on several processes, in one exchange


def _entropy_of_parts(highest: Tensor, sums: Tensor, weighted: Tensor) -> Tensor:
    top = highest.amax(dim=0)
    scale = (highest - top).exp()
    normalizer = (scale * sums).sum(dim=0)
    return top + normalizer.log() - (scale * weighted).sum(dim=0) / normalizer


def _as_if_of_one_maximum(highest: Tensor, sums: Tensor, weighted: Tensor) -> Tensor:
    top, normalizer = highest.amax(dim=0), sums.sum(dim=0)
    return top + normalizer.log() - weighted.sum(dim=0) / normalizer


def _without_maxima(highest: Tensor, sums: Tensor, weighted: Tensor) -> Tensor:
    normalizer = (highest.exp() * sums).sum(dim=0)
    return normalizer.log() - (highest.exp() * weighted).sum(dim=0) / normalizer


def _mean_of_entropies(highest: Tensor, sums: Tensor, weighted: Tensor) -> Tensor:
    return (highest + sums.log() - weighted / sums).nanmean(dim=0)


def _maximum_forgotten(highest: Tensor, sums: Tensor, weighted: Tensor) -> Tensor:
    return _entropy_of_parts(highest, sums, weighted) - highest.amax(dim=0)


def _summaries(*parts: Tensor) -> Args:
    highest = torch.stack([part.amax(dim=-1) for part in parts])
    finite = [part.masked_fill(part == -torch.inf, 0.0) for part in parts]
    powers = [
        (part - top.clamp_min(-1e30).unsqueeze(-1)).exp()
        for part, top in zip(parts, highest, strict=True)
    ]
    sums = torch.stack([power.sum(dim=-1) for power in powers])
    weighted = [(z * power).sum(dim=-1) for z, power in zip(finite, powers, strict=True)]
    return args(highest, sums, torch.stack(weighted))


entropy_of_parts = Exercise(
    "entropy_of_parts",
    title="an entropy out of three numbers a process",
    points=3,
    reference=_entropy_of_parts,
    hints=(
        "H = log Z - sum of p z, with p = e^z / Z. Both need sums over all words.",
        "A process's sums are relative to its own largest logit. Bring them to the largest of all "
        "by a factor.",
        "With m = max of m_p and c_p = e^(m_p - m): Z = sum of c_p Z_p, S = sum of c_p S_p, and "
        "H = m + log Z - S / Z.",
    ),
    cases={
        "eleven words on two processes": _summaries(normal(3, 6), normal(3, 5, seed=1)),
        "three processes, one with the likely word": _summaries(
            normal(5, 4), 6 + normal(5, 3, seed=1), normal(5, 4, seed=2)
        ),
        "equal logits: the log of the vocabulary": _summaries(*torch.full((4, 2, 3), -7.0)),
        "logits of three hundred": _summaries(300 + normal(2, 7), 298 + normal(2, 7, seed=1)),
        "a process whose words are all forbidden": _summaries(
            normal(2, 5), torch.full((2, 5), -torch.inf)
        ),
        "one process": _summaries(normal(3, 7, seed=4)),
    },
    mistakes={
        "each process subtracted its own maximum: bring the sums to one before you add them": (
            _as_if_of_one_maximum
        ),
        "e to the largest logits overflows: take differences from the largest of all": (
            _without_maxima
        ),
        "entropies of the parts do not average to that of the whole": _mean_of_entropies,
        "log Z is the maximum plus the log of the shifted sum": _maximum_forgotten,
        "the sign: an entropy is not negative": lambda *a: -_entropy_of_parts(*a),
    },
)
