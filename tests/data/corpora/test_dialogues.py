"""Conversation trees: every path once, against a recursive enumeration."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data.corpora.dialogues import (
    Dialogue,
    Post,
    conversation_trees,
    mean_reads,
)


def post(key: str, parent: str | None, role: str = "user", text: str = "") -> Post:
    return Post(id=key, parent=parent, role=role, text=text or f"text of {key}")


@st.composite
def forests(draw: st.DrawFn) -> list[Post]:
    """Parents come before their answers in number, and anywhere in the order."""
    size = draw(st.integers(1, 23))
    parents = [draw(st.none() | st.integers(0, i - 1)) if i else None for i in range(size)]
    roles = [draw(st.sampled_from(["user", "assistant"])) for _ in range(size)]
    posts = [
        post(f"m{i}", None if p is None else f"m{p}", role)
        for i, (p, role) in enumerate(zip(parents, roles, strict=True))
    ]
    return draw(st.permutations(posts))


def all_paths(posts: list[Post]) -> list[list[Post]]:
    """Every path from a root to any post, by recursion."""
    known = {m.id: m for m in posts}

    def upwards(m: Post) -> list[Post]:
        return [*(upwards(known[m.parent]) if m.parent else []), m]

    return [upwards(m) for m in posts]


@given(forests())
@pytest.mark.covers("data.sources")
def test_paths_equal_the_recursive_enumeration(posts: list[Post]) -> None:
    forest = conversation_trees(posts)
    every = {tuple(path) for path in all_paths(posts)}
    parents = {m.parent for m in posts}
    leaves = [d.turns for d in forest.paths()]
    assert len(leaves) == len(set(leaves))
    ranks = {m.id: number for number, m in enumerate(posts)}  # depth first, as they were given
    assert leaves == sorted(leaves, key=lambda path: [ranks[m.id] for m in path])
    assert set(leaves) == {path for path in every if path[-1].id not in parents}
    answered = [d.turns for d in forest.paths("assistant")]
    assert len(answered) == len(set(answered))
    assert set(answered) == {path for path in every if path[-1].role == "assistant"}
    longest = [d.turns for d in forest.longest_paths()]
    assert [p[0] for p in longest] == list(forest.roots)
    for path in longest:
        assert len(path) == max(len(p) for p in every if p[0] == path[0])


def test_a_path_as_text_and_as_turns() -> None:
    path = Dialogue((post("q", None, "user", "Tea?"), post("a", "q", "assistant", "Yes.")))
    document = path.document("forum", {"user": "Ada"})
    assert document.text == "Ada: Tea?\n\nAssistant: Yes."
    assert document.meta == {"module": "q", "name": "a"}
    assert path.messages()[1] == {"role": "assistant", "content": "Yes."}


def test_what_stands_above_a_branching_is_repeated() -> None:
    posts = [post("q", None, text="abc")]
    posts += [post(f"a{i}", "q", "assistant", "x") for i in range(5)]
    forest = conversation_trees(posts)
    assert mean_reads([*forest.paths()]) == pytest.approx(5 * 4 / (3 + 5))
    assert mean_reads([*forest.longest_paths()]) == 1
    with pytest.raises(ValueError, match="no dialogue holds any text"):
        mean_reads([])


def test_a_deep_tree_needs_no_recursion() -> None:
    depth = 5003
    chain = [post(str(i), str(i - 1) if i else None) for i in range(depth)]
    (path,) = conversation_trees(chain).paths()
    assert len(path.turns) == depth


def test_broken_trees_are_refused() -> None:
    with pytest.raises(ValueError, match="several posts have the id 'a'"):
        conversation_trees([post("a", None), post("a", None)])
    with pytest.raises(ValueError, match="'a' answers 'gone', which is missing"):
        conversation_trees([post("a", "gone")])
    with pytest.raises(ValueError, match="2 posts hang on no root"):
        conversation_trees([post("r", None), post("a", "b"), post("b", "a")])
    with pytest.raises(ValueError, match="'leaves' or 'assistant', not 'all'"):
        next(conversation_trees([post("r", None)]).paths("all"))
