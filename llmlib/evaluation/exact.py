"""Questions with one right answer each, and whether a model would give it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from typing_extensions import override

from llmlib.architecture.transformer import Transformer
from llmlib.core.task import Message, Task


@dataclass(frozen=True)
class ExactAnswers(Task):
    r"""A task whose answers are right word for word, or wrong.

    Args:
        examples: Questions with their answers that stand before each one as earlier turns.

    Example:
        >>> task = ExactAnswers(["3 + 4 ="], ["7"], examples=[("1 + 1 =", "2")])
        >>> [message["content"] for message in task.prompt(0)]
        ['1 + 1 =', '2', '3 + 4 =']
        >>> task.score(0, " 7\n"), task.score(0, "7 or 8")
        (1.0, 0.0)
    """

    questions: Sequence[str]
    answers: Sequence[str]
    examples: Sequence[tuple[str, str]] = field(default=())

    def __post_init__(self) -> None:
        if len(self.questions) != len(self.answers):
            raise ValueError(
                f"{len(self.questions)} questions and {len(self.answers)} answers: give each one"
            )

    @override
    def __len__(self) -> int:
        return len(self.questions)

    @override
    def prompt(self, i: int) -> list[Message]:
        turns: list[Message] = []
        for question, answer in self.examples:
            turns.append({"role": "user", "content": question})
            turns.append({"role": "assistant", "content": answer})
        return [*turns, {"role": "user", "content": self.questions[i]}]

    @override
    def score(self, i: int, answer: str) -> float:
        """Compare with the right answer; white space at the ends is nothing."""
        return float(answer.strip() == self.answers[i].strip())


@torch.no_grad()
def answers_greedily(
    model: Transformer,
    task: ExactAnswers,
    encode: Callable[[Sequence[Message]], Sequence[int]],
    encode_answer: Callable[[str], Sequence[int]],
    *,
    batch: int = 64,
) -> list[bool]:
    """Say which questions a model would answer rightly if it wrote its likeliest tokens.

    Nothing is written: greedy decoding gives the answer if and only if each of its tokens is the
    likeliest one after the prompt and the answer's tokens before it, which one pass tells.

    Args:
        model: The model, put into evaluation mode.
        encode: Turns a prompt into token ids, at least one.
        encode_answer: Turns an answer into the token ids that are to follow, an end mark included
            where it counts; at least one.

    Raises:
        ValueError: If a prompt or an answer has no tokens: any model would be right.
    """
    if batch < 1:
        raise ValueError(f"batch={batch} must be at least 1")
    model.eval()
    pairs = [(encode(task.prompt(i)), encode_answer(task.answers[i])) for i in range(len(task))]
    for i, pair in enumerate(pairs):
        if not all(map(len, pair)):
            raise ValueError(f"question {i} or its answer has no tokens: give each one or more, as "
                             "an end mark")  # fmt: skip
    right = []
    for start in range(0, len(pairs), batch):
        part = pairs[start : start + batch]
        rows = torch.zeros(len(part), max(len(p) + len(a) for p, a in part), dtype=torch.long)
        for row, (prompt, answer) in zip(rows, part, strict=True):
            row[: len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        hits = model(rows[:, :-1]).argmax(-1) == rows[:, 1:]  # [questions, T - 1]
        right += [
            bool(hit[len(p) - 1 : len(p) + len(a) - 1].all())
            for hit, (p, a) in zip(hits, part, strict=True)
        ]
    return right
