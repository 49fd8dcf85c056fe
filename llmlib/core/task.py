"""What is asked of a model: the same object for evaluation, for rewards and for agents."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

Message = Mapping[str, Any]
"""A turn of a conversation: `role` (`system`, `user`, `assistant` or `tool`), `content`, and what
else a chat template reads."""


@runtime_checkable
class Task(Protocol):
    """A number of questions, each with its prompt and with a judgement of any answer to it.

    What a question is made of, where it comes from and how it is judged is the task's own affair;
    who asks it needs nothing but these three.
    """

    def __len__(self) -> int:
        """Return the number of questions."""
        ...

    def prompt(self, i: int) -> list[Message]:
        """Return the conversation that the model is to continue, worked examples first."""
        ...

    def score(self, i: int, answer: str) -> float:
        """Judge an answer to question i: 1 is as good, 0 as bad as can be."""
        ...
