"""WordPiece grows pieces by likelihood and uses them greedily; what it loses is known."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data.tokenizers import Normalizer, WordPiece

PLAIN = Normalizer()
PROSE = [
    "The theorem holds for every graph; the graph's edges are the pairs it's given.",
    "Señor Ångström mißt 深い湖 — naïve test, test, testing the tester's tests.",
] * 3
LEARNT = WordPiece.train(PROSE, 97)


def textbook(words: dict[str, int], n_tokens: int, score: str, least: int) -> list[str]:
    """Recount everything after each merge."""
    spelt = sorted({w[0] for w in words}) + sorted({"##" + c for w in words for c in w[1:]})
    ids = {token: i for i, token in enumerate(spelt)}
    cut = {w: [w[0], *("##" + c for c in w[1:])] for w in words}
    while len(spelt) < n_tokens:
        single = Counter[str]()
        pairs = Counter[tuple[str, str]]()
        for word, parts in cut.items():
            for part in parts:
                single[part] += words[word]
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        total = single.total()

        def value(pair: tuple[str, str], pairs=pairs, single=single, total=total) -> float:
            n, a, b = pairs[pair], single[pair[0]], single[pair[1]]
            gain = n * math.log(n * float(total) / (float(a) * b))
            return {"ratio": n / (a * b), "gain": gain, "count": n}[score]

        frequent = [pair for pair in pairs if pairs[pair] >= least]
        if not frequent:
            break
        best = min(frequent, key=lambda p: (-value(p), ids[p[0]], ids[p[1]]))
        joined = best[0] + best[1].removeprefix("##")
        if joined not in ids:
            ids[joined] = len(spelt)
            spelt.append(joined)
        for word, parts in cut.items():
            at = 0
            while at + 1 < len(parts):
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = [joined]
                at += 1
            cut[word] = parts
    return spelt


@settings(deadline=None)
@given(
    st.lists(st.text(alphabet="abcd", min_size=1, max_size=11), min_size=1, max_size=13),
    st.integers(1, 11),
    st.sampled_from(["ratio", "count"]),
    st.integers(1, 3),
)
@pytest.mark.covers("data.tokenize-wordpiece")
def test_merges_are_the_textbooks(words: list[str], n_merges: int, score, least: int) -> None:
    counts = Counter(words)
    n_letters = len({w[0] for w in words}) + len({c for w in words for c in w[1:]})
    expected = textbook(counts, n_letters + n_merges, score, least)
    options = {"score": score, "min_frequency": least, "normalizer": PLAIN, "cut": "whitespace"}
    texts = [" ".join(words)]
    trained = WordPiece.train(texts, len(expected) + 1, ["[UNK]"], **options)
    assert trained.tokens == ["[UNK]", *expected]
    if len(expected) < n_letters + n_merges:
        with pytest.raises(ValueError, match=f"at most vocab_size={len(expected) + 1}"):
            WordPiece.train(texts, n_letters + n_merges + 1, ["[UNK]"], **options)


def test_gain_is_the_textbooks_where_scores_differ_clearly() -> None:
    words = {"low": 5, "lower": 2, "newest": 6, "widest": 3, "slow": 7}
    expected = textbook(words, 23, "gain", 1)
    text = " ".join(word for word, n in words.items() for _ in range(n))
    assert WordPiece.train([text], 24, ["[UNK]"], score="gain", min_frequency=1).tokens[1:] == (
        expected
    )


def test_a_hand_worked_example() -> None:
    # hug 10, pug 5, pun 12, bun 4, hugs 5. ##u occurs 36 times, ##g 20, ##n 16, ##s 5, h 15, p 17,
    # b 4; ##u ##g 20 / (36 x 20) = 1/36; ##g ##s 5 / (20 x 5) = 1/20 is the highest. Then h and
    # ##u 15 / (15 x 36) = 1/36, as have ##u ##g? 15 of them are left: 15 / (36 x 15) = 1/36, and
    # ##u ##gs 5 / (36 x 5), p ##u 17 / (17 x 36), b ##u, ##u ##n: all 1/36, so ids decide: b ##u.
    text = " ".join(["hug"] * 10 + ["pug"] * 5 + ["pun"] * 12 + ["bun"] * 4 + ["hugs"] * 5)
    pieces = WordPiece.train([text], 10, ["[UNK]"], min_frequency=1)
    assert pieces.tokens == (["[UNK]", "b", "h", "p", "##g", "##n", "##s", "##u"] + ["##gs", "bu"])
    # BPE's rule takes the commonest pair first instead.
    assert WordPiece.train([text], 9, ["[UNK]"], score="count").tokens[8] == "##ug"


def test_the_ratio_prefers_accidents_and_a_least_frequency_prevents_it() -> None:
    texts = ["the cat and the dog and the bird " * 7 + "xylq"]
    first = {
        least: WordPiece.train(texts, 21 + (least == 1), ["[UNK]"], min_frequency=least)
        for least in (1, 2)
    }
    assert first[1].tokens[-1] in {"##lq", "##yl", "xy"}
    assert set("xylq").isdisjoint(first[2].tokens[-1])


@pytest.fixture(scope="module")
def prose() -> WordPiece:
    return LEARNT


def test_encoding_takes_the_longest_match(prose: WordPiece) -> None:
    pieces = WordPiece(["[UNK]", "un", "una", "##aff", "##ff", "##able", "##a", "a"], ["[UNK]"])
    spelt = [pieces.tokens[i] for i in pieces.encode("unaffable a affa")]
    assert spelt == ["una", "##ff", "##able", "a", "a", "##ff", "##a"]
    # Greedy is not the same as possible: `una` is taken, and then nothing fits.
    greedy = WordPiece(["[UNK]", "un", "una", "##aff"], ["[UNK]"])
    assert greedy.encode("unaff") == [0]
    assert prose.decode(prose.encode("The testers test")) == "the testers test"


def test_a_long_word_is_unknown() -> None:
    pieces = WordPiece(["[UNK]", "a", "##a"], ["[UNK]"], max_characters=7)
    assert pieces.encode("aaaaaaa") == [1] + [2] * 6
    assert pieces.encode("aaaaaaaa") == [0]


def test_what_is_lost(prose: WordPiece) -> None:
    """Case, accents, white space and characters never seen: the price of WordPiece."""
    assert prose.decode(prose.encode("The  graph\n\tángström")) == "the graph angstrom"
    assert prose.decode(prose.encode("graph \U0001f642")) == "graph [UNK]"


@settings(deadline=None)
@given(st.text())
def test_encoding_again_what_was_decoded_changes_nothing(text: str) -> None:
    pieces = LEARNT
    ids = pieces.encode(text)
    assert pieces.encode_batch([text])[0].tolist() == ids
    if pieces.special_tokens["[UNK]"] not in ids:
        assert pieces.encode(pieces.decode(ids)) == ids


def test_special_tokens_in_text_are_text(prose: WordPiece) -> None:
    special = set(prose.special_tokens.values()) - {prose.special_tokens["[UNK]"]}
    text = "the [SEP] test [CLS][MASK]"
    assert special.isdisjoint(prose.encode(text))
    assert special.isdisjoint(prose.encode_batch([text])[0].tolist())
    allowed = prose.encode(text, allowed_special={"[SEP]"})
    assert [i for i in allowed if i in special] == [prose.special_tokens["[SEP]"]]
    # Where words are cut at white space alone, `[SEP]` is a word and still no special token.
    whole = WordPiece(
        ["[UNK]", "[SEP]", "a"], ["[UNK]", "[SEP]"], cut="whitespace", normalizer=PLAIN
    )
    assert whole.encode("a [SEP]") == [2, 0]
    with pytest.raises(ValueError, match="not special tokens"):
        prose.encode(text, allowed_special={"[NONE]"})


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="too small"):
        WordPiece.train(["abc"], 7)
    with pytest.raises(ValueError, match="given twice"):
        WordPiece(["[UNK]", "a", "a"], ["[UNK]"])
    with pytest.raises(ValueError, match="lacks"):
        WordPiece(["a"], ["[UNK]"])
    with pytest.raises(ValueError, match="cut='words'"):
        WordPiece(["[UNK]"], ["[UNK]"], cut="words")
    with pytest.raises(ValueError, match="score="):
        WordPiece.train(["abc abc"], 12, score="pmi")
