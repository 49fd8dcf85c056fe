"""Character-level BPE merges as the textbook does, and its dropout has the right chances."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlib.data.tokenizers import CharacterBPE

PROSE = [
    "The theorem holds for every graph; the graph's edges are the pairs it's given.",
    "\n    Examples\n    ========\n\n    >>> print(2 + 2)\n    4\n",
    "Señor Ångström mißt 深い湖 — naïve test, test, testing the tester's tests.",
] * 3
LEARNT = CharacterBPE.train(PROSE, 367, ["<|end|>"])
MARKS = st.sampled_from([("", ""), ("</w>", ""), ("", "##")])


def spelt(bpe: CharacterBPE, ids: list[int]) -> list[str]:
    return [bpe.tokens[i] for i in ids]


def textbook(words: Counter[str], n_symbols: int, end: str, inside: str) -> list[tuple[str, str]]:
    """Recount everything after each merge; equal counts are decided by ids."""
    cut = {w: [w[0], *(inside + c for c in w[1:])] for w in words}
    for parts in cut.values():
        parts[-1] += end
    names = sorted({part for parts in cut.values() for part in parts})
    merges = []
    while len(names) < n_symbols:
        counts = Counter[tuple[str, str]]()
        for word, parts in cut.items():
            for pair in pairwise(parts):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda p: (-counts[p], names.index(p[0]), names.index(p[1])))
        merges.append(best)
        joined = best[0] + best[1].removeprefix(inside)
        if joined not in names:
            names.append(joined)
        for parts in cut.values():
            at = 0
            while at + 1 < len(parts):
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = [joined]
                at += 1
    return merges


@settings(deadline=None)
@given(
    st.lists(st.text(alphabet="abc", min_size=1, max_size=11), min_size=1, max_size=9),
    st.integers(1, 11),
    MARKS,
)
@example(["aaaaaaa", "aaaaa", "aaa", "aa"], 5, ("", ""))
@pytest.mark.covers("data.tokenize-bpe")
def test_merges_are_the_textbooks(words: list[str], n_merges: int, marks) -> None:
    end, inside = marks
    counts = Counter(words)
    n_letters = len(symbols_of(counts, end, inside))
    expected = textbook(counts, n_letters + n_merges, end, inside)
    made = {a + b.removeprefix(inside) for a, b in expected}
    size = len(symbols_of(counts, end, inside) | made)
    bpe = CharacterBPE.train(
        [" ".join(words)],
        256 + size,
        end_of_word=end,
        continuing=inside,
        cut="whitespace",
    )
    assert bpe.merges == expected[: len(bpe.merges)]
    assert len(bpe.merges) >= len(made)
    if not (end or inside):
        for word in words:
            assert bpe.decode(bpe.encode(word)) == word


def symbols_of(words: Counter[str], end: str, inside: str) -> set[str]:
    return {
        (inside if at else "") + c + (end if at == len(w) - 1 else "")
        for w in words
        for at, c in enumerate(w)
    }


def test_the_papers_example() -> None:
    # Sennrich et al. (2016), algorithm 1: low 5, lower 2, newest 6, widest 3.
    text = " ".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)
    options = {"cut": "whitespace", "end_of_word": "</w>", "byte_fallback": False}
    # Eleven symbols (t</w>, r</w> and w</w> among them), the unknown token, then four merges.
    bpe = CharacterBPE.train([text], 16, **options)
    assert bpe.merges == [("e", "s"), ("es", "t</w>"), ("l", "o"), ("e", "w")]
    assert spelt(bpe, bpe.encode("lowest")) == ["lo", "w", "est</w>"]
    assert spelt(bpe, bpe.encode("west xt")) == ["w", "est</w>", "<unk>", "t</w>"]
    assert bpe.decode(bpe.encode("newest low")) == "newest low"


@pytest.mark.parametrize("dropout", [0.1, 0.5])
@pytest.mark.covers("data.tokenize-bpe")
def test_dropout_has_the_papers_chances(dropout: float) -> None:
    """On `abc` with merges ab, then bc, then abc the chance of each way can be worked out."""
    bpe = CharacterBPE("abc", [("a", "b"), ("b", "c"), ("ab", "c")], cut="none")
    p, q = dropout, 1 - dropout
    chances = {
        ("abc",): q * q,  # ab is kept, and then abc
        ("ab", "c"): q * p,
        ("a", "bc"): p * q,  # ab is left out, bc is not
        ("a", "b", "c"): p * p,
    }
    rng, n = random.Random(5), 1009
    drawn = Counter(tuple(spelt(bpe, bpe.sample("abc", rng, dropout=p))) for _ in range(n))
    for way, chance in chances.items():
        assert drawn[way] / n == pytest.approx(chance, abs=4 * (chance / n) ** 0.5)


def test_dropout_at_its_ends() -> None:
    rng = random.Random(3)
    for text in PROSE:
        assert LEARNT.sample(text, rng, dropout=0.0) == LEARNT.encode(text)
        assert len(LEARNT.sample(text, rng, dropout=1.0)) == len(text)
        assert LEARNT.decode(LEARNT.sample(text, rng, dropout=0.3)) == text
    with pytest.raises(ValueError, match="dropout="):
        LEARNT.sample("a", rng, dropout=1.1)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="no token yet"):
        CharacterBPE("ab", [("ab", "a")])
    with pytest.raises(ValueError, match="twice"):
        CharacterBPE("aba", [])
    with pytest.raises(ValueError, match="'<unk>' must be"):
        CharacterBPE("ab", [], byte_fallback=False)
    with pytest.raises(ValueError, match="too small"):
        CharacterBPE.train(["abc"], 258)
    with pytest.raises(ValueError, match="at most vocab_size=261"):
        CharacterBPE.train(["abc"], 263)
    with pytest.raises(ValueError, match="lone surrogate"):
        LEARNT.sample("\udc00", random.Random(0), dropout=0.5)
