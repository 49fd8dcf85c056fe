"""Each statistical rule has a document that passes and one that fails by a hair."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data.cleaning import C4Lines, GopherQuality, GopherRepetition, Pipeline, c4_steps
from llmlib.data.cleaning.rules.c4 import C4Pages, EnoughSentences
from llmlib.data.cleaning.rules.gopher_repetition import (
    duplicate_ngram_share,
    duplicate_shares,
    top_ngram_share,
)
from llmlib.data.corpora.document import Document


def doc(text: str) -> Document:
    return Document(text=text, source="test")


def words(n: int, length: int = 5) -> list[str]:
    """Different words of letters alone."""
    letters = itertools.product("abcdefghij", repeat=4)
    return ["".join(next(letters)).ljust(length, "x")[:length] for _ in range(n)]


STOP = ["the", "of"]
FIFTY = [*STOP, *words(48)]  # 6 + 48 * 5 characters


def page(*more: str, base: list[str] = FIFTY) -> str:
    return " ".join([*base, *more])


def lines_of(n: int, begin: str = "", end: str = "") -> list[str]:
    plain = [" ".join([*STOP, *words(48)[4 * i : 4 * i + 4]]) for i in range(10)]
    return [begin * (i < n) + line + end * (i < n) for i, line in enumerate(plain)]


GOPHER = [
    ("few words", page(), page(base=FIFTY[:49])),
    ("many words", page(base=FIFTY * 2000), page("more", base=FIFTY * 2000)),
    # 50 words of 150 characters in all, then of 149; of 500, then of 501
    ("short words", "the of a " + "abc " * 46 + "abcdef", "the of a " + "abc " * 46 + "abcde"),
    (
        "long words",
        " ".join(["the", "of", *["a" * 10] * 47, "b" * 25]),
        " ".join(["the", "of", *["a" * 10] * 47, "b" * 26]),
    ),
    ("hash marks", page("#", "#", "#", "#", "#"), page("######")),
    ("ellipses", page("a... b... c… d...e...f"), page("a... b... c… d...e...f...g")),
    ("bullet lines", "\n".join(lines_of(9, begin="- ")), "\n".join(lines_of(10, begin="• "))),
    (
        "ellipsis lines",
        "\n".join(lines_of(3, end="...")),
        "\n".join(lines_of(4, end="…")),
    ),
    (
        "few alphabetic words",
        page(*(["1234"] * 12), "word2"),
        page(*(["1234"] * 13)),
    ),
    ("few stop words", page(), page(base=["the", *words(49)])),
]


@pytest.mark.covers("data.filter-statistic")
@pytest.mark.parametrize(("rule", "passing", "failing"), GOPHER, ids=[row[0] for row in GOPHER])
def test_gopher_quality_on_both_sides(rule: str, passing: str, failing: str) -> None:
    assert GopherQuality().reason(doc(passing)) is None
    assert GopherQuality().reason(doc(failing)) == rule


def test_stop_words_are_whole_words_in_any_case_and_any_two() -> None:
    rules = GopherQuality(min_words=1)
    assert rules.reason(doc("HAVE fun With it")) is None
    assert rules.reason(doc("the and-sign")) is None  # a hyphen ends a word
    assert rules.reason(doc("lathe often beheld by the the")) == "few stop words"


# Ten lines of ten characters: three repetitions are 30 %, the most allowed.
TEN = words(13, 10)
# For each n one page whose repetition is on the bound or just below, one that is just above.
REPETITION = [
    ("duplicate lines", [*TEN[:6], *["x"] * 4], [*TEN[:5], *["x"] * 5]),
    (
        "characters in duplicate lines",
        [*TEN[:6], "y" * 19, "y" * 19, "z"],  # 19 of 99
        [*TEN[:6], "y" * 22, "y" * 22, "z"],  # 22 of 105
    ),
]


@pytest.mark.covers("data.filter-statistic")
@pytest.mark.parametrize(("rule", "passing", "failing"), REPETITION)
@pytest.mark.parametrize("what", ["lines", "paragraphs"])
def test_gopher_repetition_of_lines_and_paragraphs(
    rule: str, passing: list[str], failing: list[str], what: str
) -> None:
    if what == "paragraphs":  # two lines each, never the same second line
        passing, failing = (
            [f"{part}\n{part[::-1]}" for part in side] for side in (passing, failing)
        )
        rules = GopherRepetition(lines=1.0, line_characters=1.0, top_ngrams={}, duplicate_ngrams={})
    else:
        rules = GopherRepetition(top_ngrams={}, duplicate_ngrams={})
    join = "\n" if what == "lines" else "\n\n"
    assert rules.reason(doc(join.join(passing))) is None
    assert rules.reason(doc(join.join(failing))) == rule.replace("lines", what)


def with_repeats(n: int, times: int, filler: int) -> str:
    """A page where one n-gram stands `times` times among words that stand once."""
    gram, others = words(n), iter(words(filler + n)[n:])
    parts = list(gram)
    for _ in range(times - 1):
        parts += [next(others), *gram]
    return " ".join([*parts, *others])


@pytest.mark.covers("data.filter-statistic")
@pytest.mark.parametrize(("n", "percent"), [(2, 20), (3, 18), (4, 16)])
def test_gopher_top_ngrams(n: int, percent: int) -> None:
    # Words are equally long: `times` n-grams among 100 words are times * n percent.
    rules = GopherRepetition(duplicate_ngrams={})
    most = percent // n
    passing = with_repeats(n, most, 100 - most * n)
    failing = with_repeats(n, most + 1, 100 - (most + 1) * n)
    assert top_ngram_share(passing.split(), n) == pytest.approx(most * n / 100)
    assert rules.reason(doc(passing)) is None
    assert rules.reason(doc(failing)) == f"top {n}-gram"


@pytest.mark.covers("data.filter-statistic")
@pytest.mark.parametrize(("n", "percent"), [(5, 15), (6, 14), (7, 13), (8, 12), (9, 11), (10, 10)])
def test_gopher_duplicate_ngrams(n: int, percent: int) -> None:
    # One n-gram stands twice: its second occurrence is n words of 100 n / percent in all.
    rules = GopherRepetition(top_ngrams={}, duplicate_ngrams={n: percent / 100})
    total = -(-100 * n // percent)
    passing, failing = (with_repeats(n, 2, size - 2 * n) for size in (total, total - 1))
    if 100 * n % percent:
        assert n / total < percent / 100 < n / (total - 1)
    assert rules.reason(doc(passing)) is None
    assert rules.reason(doc(failing)) == f"duplicate {n}-grams"
    assert GopherRepetition().duplicate_ngrams[n] == percent / 100


def naive_share(tokens: list[str], n: int) -> float:
    seen, covered = set(), set()
    for start in range(len(tokens) - n + 1):
        gram = tuple(tokens[start : start + n])
        if gram in seen:
            covered.update(range(start, start + n))
        seen.add(gram)
    return sum(len(tokens[i]) for i in covered) / max(1, sum(map(len, tokens)))


def naive_top(tokens: list[str], n: int) -> int:
    grams = [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
    return max((grams.count(gram) for gram in grams), default=0)


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dé", "e"]), max_size=41), st.integers(1, 11))
def test_hashed_ngrams_agree_with_tuples(tokens: list[str], n: int) -> None:
    assert duplicate_ngram_share(tokens, n) == pytest.approx(naive_share(tokens, n))
    most = naive_top(tokens, n)
    share = top_ngram_share(tokens, n)
    if most < 2:
        assert share == 0
    else:
        grams = {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}
        sizes = {
            sum(map(len, gram))
            for gram in grams
            if sum(tuple(tokens[i : i + n]) == gram for i in range(len(tokens))) == most
        }
        assert share in [pytest.approx(most * size / sum(map(len, tokens))) for size in sizes]


def test_repetition_counts_what_repeats_and_not_the_first() -> None:
    assert duplicate_shares(["a", "a", " a", "b", "", " "]) == (0.5, 0.5)
    assert duplicate_shares([]) == (0, 0)
    assert GopherRepetition().reason(doc("")) is None
    assert GopherRepetition().reason(doc("word " * 50)) == "top 2-gram"
    assert GopherRepetition().reason(doc(page())) is None


LINE = "A line of five words."


@pytest.mark.covers("data.filter-statistic")
@pytest.mark.parametrize(
    ("passing", "failing"),
    [
        (LINE, "A line of five words"),
        ("Is it of five words?", "Is it of five words;"),
        ("Stop it right there now!", "Stop it right there now:"),
        ('He said "leave me alone"', "He said 'leave me alone'"),
        (LINE, "A line of five words..."),
        (LINE, "A line of words."),
        ("It runs Java scripts every day.", "Please enable JavaScript in your browser."),
        ("Read the terms of the loan.", "Read our Terms of Use before posting."),
        ("The policy on privacy was changed.", "Our privacy policy has been changed."),
        ("Their policy on cookies is generous.", "Read our cookie policy in full here."),
        ("She uses only cookies from Vienna.", "This site uses cookies to work well."),
        ("We made use of some cookies.", "You agree to the use of cookies."),
        ("We use only cookies with butter.", "We use cookies to improve this."),
        ("It was so [sic] at the time.", "So it was [1]."),
    ],
)
def test_c4_lines_on_both_sides(passing: str, failing: str) -> None:
    assert C4Lines().line(passing) == passing
    assert C4Lines().line(failing) is None


def test_c4_takes_citation_marks_out() -> None:
    text = "It rained for days on end.[12][citation needed]\n Home \n The roof was [edit] mended.\n"
    cleaned = C4Lines(min_words=4).apply(doc(text))
    assert cleaned.text == "It rained for days on end.\nThe roof was  mended."
    assert C4Lines().apply(cleaned).text == "It rained for days on end."
    same = doc(LINE)
    assert C4Lines().apply(same) is same


@pytest.mark.covers("data.filter-statistic")
@pytest.mark.parametrize(
    ("passing", "failing", "rule"),
    [
        ("The lore of ipsum dolor.", "Lorem Ipsum dolor sit amet.", "lorem ipsum"),
        ("if (x) return 0;", "if (x) { return 0; }", "curly bracket"),
    ],
)
def test_c4_pages_on_both_sides(passing: str, failing: str, rule: str) -> None:
    assert C4Pages().reason(doc(passing)) is None
    assert C4Pages().reason(doc(failing)) == rule


@pytest.mark.covers("data.filter-statistic")
@pytest.mark.parametrize(
    ("passing", "failing"),
    [
        ("One. Two. Three.", "One. Two. Three"),
        ("One! Two? Three...", "One? 2.3.4 and file.txt. Go"),
        ('He said "no." She left. Then I went.', 'He said "no." She left'),
        ("下雨了。他走了。天黑了。", "下雨了。天黑了。"),
    ],
)
def test_c4_sentences_on_both_sides(passing: str, failing: str) -> None:
    assert EnoughSentences().reason(doc(passing)) is None
    assert EnoughSentences().reason(doc(failing)) == "few sentences"


def test_c4_in_order_cleans_a_page() -> None:
    body = [f"The {n} of May was a day like any other." for n in ("first", "second", "third")]
    web = "\n".join(["Home | Shop | Log in", *body, "This site uses cookies to work well.", "©"])
    pipeline = Pipeline(c4_steps())
    (kept,) = pipeline.run([doc(web), doc("\n".join([*body[:2], "Menu"])), doc(web + "{")])
    assert kept.text == "\n".join(body)
    assert pipeline.report().reasons() == {
        "C4 pages: curly bracket": 1,
        "C4 sentences: few sentences": 1,
    }
