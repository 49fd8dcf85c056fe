"""Conversations that branch, made into texts that do not.

On a forum one post has many answers. A language model reads from left to right, so the tree
becomes several sub-dialogues, each a path from the root, and what stands above a branching is
repeated in each of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmlib.data.corpora.document import Document

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation that may branch.

    Attributes:
        id: Unlike any other message's.
        parent: The message that it answers; None for the first of a tree.
        role: Who speaks; `assistant` where a model is to learn to answer.
        text: What is said.
    """

    id: str
    parent: str | None
    role: str
    text: str


@dataclass(frozen=True)
class Dialogue:
    """A path through a tree of messages.

    Attributes:
        turns: Its messages, from the root on.
    """

    turns: tuple[Message, ...]

    def messages(self) -> list[dict[str, str]]:
        """Return the turns as a chat template takes them.

        Returns:
            Role and content of each turn.
        """
        return [{"role": turn.role, "content": turn.text} for turn in self.turns]

    def document(self, source: str, names: Mapping[str, str] | None = None) -> Document:
        """Write the path out as one text, a paragraph a turn.

        Args:
            source: Where the conversation is from.
            names: What to call each role; by default the role's name, capitalized.

        Returns:
            The text; `meta["module"]` is the root's id, so that paths of one tree stay on one side
            of a split.
        """
        named = names or {}
        lines = [f"{named.get(t.role, t.role.capitalize())}: {t.text}" for t in self.turns]
        meta = {"module": self.turns[0].id, "name": self.turns[-1].id}
        return Document(text="\n\n".join(lines), source=source, meta=meta)


@dataclass(frozen=True)
class ConversationForest:
    """Conversation trees.

    Attributes:
        roots: The first message of each tree, in the order given.
        answers: The messages that answer each message, by its id, in the order given.
    """

    roots: tuple[Message, ...]
    answers: Mapping[str, tuple[Message, ...]]

    def paths(self, ends: str = "leaves") -> Iterator[Dialogue]:
        r"""Walk through every tree and yield its sub-dialogues.

        Args:
            ends: `leaves` for every path from a root to a message without an answer; `assistant`
                for every path from a root to an assistant's message, within the tree as well as at
                its end, so that each answer is the last turn exactly once and nothing is learnt
                from what no assistant said last.

        Yields:
            The paths, depth first, in the order of the messages.

        Raises:
            ValueError: If `ends` is something else.

        Example:
            >>> forest = conversation_trees([
            ...     Message(id="q", parent=None, role="user", text="Tea?"),
            ...     Message(id="a", parent="q", role="assistant", text="Yes."),
            ...     Message(id="b", parent="q", role="assistant", text="No."),
            ...     Message(id="c", parent="b", role="user", text="Why?"),
            ... ])
            >>> [[turn.id for turn in path.turns] for path in forest.paths()]
            [['q', 'a'], ['q', 'b', 'c']]
            >>> [[turn.id for turn in path.turns] for path in forest.paths("assistant")]
            [['q', 'a'], ['q', 'b']]

        References:
            Zhao et al. (2023), A Survey of Large Language Models, section 4.1.1 (conversation
            text); Zhang et al. (2022), OPT, section 2.3 (the longest path only); Köpf et al.
            (2023), OpenAssistant Conversations, section 3.
        """
        if ends not in ("leaves", "assistant"):
            raise ValueError(f"ends is 'leaves' or 'assistant', not {ends!r}")
        pending = [(root, 0) for root in reversed(self.roots)]  # a stack: trees may be deep
        path: list[Message] = []
        while pending:
            message, depth = pending.pop()
            del path[depth:]
            path.append(message)
            children = self.answers.get(message.id, ())
            if (not children) if ends == "leaves" else message.role == "assistant":
                yield Dialogue(tuple(path))
            pending += [(child, depth + 1) for child in reversed(children)]

    def longest_paths(self) -> Iterator[Dialogue]:
        """Yield the longest path of every tree, the first of several.

        Yields:
            One path a tree.
        """
        longest: dict[str, Dialogue] = {}
        for path in self.paths():
            known = longest.get(path.turns[0].id)
            if known is None or len(known.turns) < len(path.turns):
                longest[path.turns[0].id] = path
        yield from longest.values()


def conversation_trees(messages: Iterable[Message]) -> ConversationForest:
    """Put messages together into trees.

    Args:
        messages: In any order; held in memory.

    Returns:
        The trees.

    Raises:
        ValueError: If two messages share an id, one answers an unknown message, or messages answer
            each other in a circle.
    """
    known = [*messages]
    counts = Counter(message.id for message in known)
    if repeated := [key for key, count in counts.items() if count > 1]:
        raise ValueError(f"several messages have the id {repeated[0]!r}")
    answers: dict[str, list[Message]] = {}
    for message in known:
        if message.parent is not None:
            if message.parent not in counts:
                raise ValueError(
                    f"message {message.id!r} answers {message.parent!r}, which is missing. Leave "
                    "out what answers a removed message, or make it a root."
                )
            answers.setdefault(message.parent, []).append(message)
    roots = tuple(message for message in known if message.parent is None)
    reached, pending = 0, [*roots]
    while pending:
        reached += 1
        pending += answers.get(pending.pop().id, [])
    if reached < len(known):
        raise ValueError(f"{len(known) - reached} messages hang on no root: they form a circle")
    return ConversationForest(roots, {key: tuple(value) for key, value in answers.items()})


def repetition(dialogues: Sequence[Dialogue]) -> float:
    """Measure how often a message is read on average, if each path is read once.

    Args:
        dialogues: The paths.

    Returns:
        Bytes of all paths over bytes of the messages in them, at least 1.

    Raises:
        ValueError: If there is no text.
    """
    distinct = {turn.id: turn.text for path in dialogues for turn in path.turns}
    once = sum(len(text.encode()) for text in distinct.values())
    if not once:
        raise ValueError("no dialogue holds any text")
    return sum(len(turn.text.encode()) for path in dialogues for turn in path.turns) / once
