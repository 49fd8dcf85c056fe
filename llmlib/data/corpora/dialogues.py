"""Conversations that branch, made into texts that do not.

On a forum one post has many answers. A language model reads from left to right, so the tree
becomes several sub-dialogues, each a path from the root, and what stands above a branching is
repeated in each of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.units import text_bytes


@dataclass(frozen=True, kw_only=True)
class Post:
    """One turn of a conversation that may branch; its id is unlike any other's."""

    id: str
    parent: str | None
    """The post that it answers; None for the first of a tree."""
    role: str
    """Who speaks; `assistant` where a model is to learn to answer."""
    text: str


@dataclass(frozen=True)
class Dialogue:
    """A path through a tree of posts, from the root on."""

    turns: tuple[Post, ...]

    def messages(self) -> list[dict[str, str]]:
        """Return the turns as a chat template takes them."""
        return [{"role": turn.role, "content": turn.text} for turn in self.turns]

    def document(self, source: str, names: Mapping[str, str] | None = None) -> Document:
        """Write the path out as one text, a paragraph a turn, by the roles' names or those given.

        `meta["module"]` is the root's id, so that paths of one tree stay on one side of a split.
        """
        named = names or {}
        lines = [f"{named.get(t.role, t.role.capitalize())}: {t.text}" for t in self.turns]
        meta = {"module": self.turns[0].id, "name": self.turns[-1].id}
        return Document(text="\n\n".join(lines), source=source, meta=meta)


@dataclass(frozen=True)
class ConversationForest:
    """Conversation trees, in the order given."""

    roots: tuple[Post, ...]
    """The first post of each tree."""
    answers: Mapping[str, tuple[Post, ...]]
    """The posts that answer each post, by its id."""

    def paths(self, ends: str = "leaves") -> Iterator[Dialogue]:
        """Walk through every tree and yield its sub-dialogues.

        Args:
            ends: `leaves` for every path from a root to a post without an answer; `assistant` for
                every path from a root to an assistant's post, within the tree as well as at its
                end, so that each answer is the last turn exactly once and nothing is learnt from
                what no assistant said last.

        Yields:
            The paths, depth first, in the order of the posts.

        Example:
            >>> forest = conversation_trees([
            ...     Post(id="q", parent=None, role="user", text="Tea?"),
            ...     Post(id="a", parent="q", role="assistant", text="Yes."),
            ...     Post(id="b", parent="q", role="assistant", text="No."),
            ...     Post(id="c", parent="b", role="user", text="Why?"),
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
        path: list[Post] = []
        while pending:
            post, depth = pending.pop()
            del path[depth:]
            path.append(post)
            children = self.answers.get(post.id, ())
            if (not children) if ends == "leaves" else post.role == "assistant":
                yield Dialogue(tuple(path))
            pending += [(child, depth + 1) for child in reversed(children)]

    def longest_paths(self) -> Iterator[Dialogue]:
        """Yield the longest path of every tree, the first of several."""
        longest: dict[str, Dialogue] = {}
        for path in self.paths():
            known = longest.get(path.turns[0].id)
            if known is None or len(known.turns) < len(path.turns):
                longest[path.turns[0].id] = path
        yield from longest.values()


def conversation_trees(posts: Iterable[Post]) -> ConversationForest:
    """Put posts, given in any order, together into trees.

    Raises:
        ValueError: If two posts share an id, one answers an unknown post, or posts answer each
            other in a circle.
    """
    known = [*posts]
    counts = Counter(post.id for post in known)
    if repeated := [key for key, count in counts.items() if count > 1]:
        raise ValueError(f"several posts have the id {repeated[0]!r}")
    answers: dict[str, list[Post]] = {}
    for post in known:
        if post.parent is not None:
            if post.parent not in counts:
                raise ValueError(
                    f"post {post.id!r} answers {post.parent!r}, which is missing. Leave "
                    "out what answers a removed post, or make it a root."
                )
            answers.setdefault(post.parent, []).append(post)
    roots = tuple(post for post in known if post.parent is None)
    reached, pending = 0, [*roots]
    while pending:
        reached += 1
        pending += answers.get(pending.pop().id, [])
    if reached < len(known):
        raise ValueError(f"{len(known) - reached} posts hang on no root: they form a circle")
    return ConversationForest(roots, {key: tuple(value) for key, value in answers.items()})


def mean_reads(dialogues: Sequence[Dialogue]) -> float:
    """Measure how often a post is read on average, by its bytes, if each path is read once.

    Raises:
        ValueError: If there is no text.
    """
    distinct = {turn.id: turn.text for path in dialogues for turn in path.turns}
    once = sum(map(text_bytes, distinct.values()))
    if not once:
        raise ValueError("no dialogue holds any text")
    return sum(text_bytes(turn.text) for path in dialogues for turn in path.turns) / once
