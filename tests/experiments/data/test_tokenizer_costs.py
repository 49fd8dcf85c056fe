"""Costs of a tokenizer: how they are measured, and what the committed runs say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.core.statistics import t_interval
from llmlib.data import ByteBPE
from llmlib.data.cleaning.language import LANGUAGES
from llmlib.experiments.data.tokenizer_costs import (
    ALGORITHMS,
    BPE_SIZES,
    CODE,
    COUNTS,
    SEEDS,
    SIZE,
    costs,
    first_bytes,
    learn,
    material,
    plan,
    premium,
    ratio,
)
from llmlib.experiments.experiment import Run
from llmlib.experiments.records import read_runs

NAME = "tokenizer_costs"
FOREIGN = [code for code in LANGUAGES if code != "en"]
WITHOUT_LATIN = ["ar", "ja", "ko", "ru", "uk", "zh"]


@given(st.lists(st.text(max_size=7), max_size=5), st.integers(0, 43))
def test_first_bytes_are_a_beginning_as_long_as_characters_allow(texts: list[str], limit: int):
    taken, whole = "".join(first_bytes(texts, limit)), "".join(texts)
    assert whole.startswith(taken) or "" in texts
    size = len(taken.encode())
    assert size <= limit
    if "" not in texts and taken != whole:
        assert size + len(whole[len(taken)].encode()) > limit


@pytest.mark.slow
def test_both_vocabularies_see_as_much_text_and_none_of_what_they_are_measured_on():
    parts = material(5)
    sizes = [sum(len(text.encode()) for text in texts) for texts in parts.train.values()]
    assert abs(sizes[0] - sizes[1]) < 100 and sizes[0] > 900_000
    assert set(parts.test) == {*LANGUAGES, CODE}
    assert len({len(parts.test[code]) for code in LANGUAGES}) == 1 and len(parts.test["zh"]) > 200
    tested = {text for code in LANGUAGES for text in parts.test[code]}
    for texts in parts.train.values():
        assert not tested & set(texts)
    assert material(5).test == parts.test != material(7).test


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_kind_is_learnt_with_the_size_asked_for(algorithm: str):
    texts = ["the bridge over the river", "the river under the bridge"] * 11
    size = {"byte BPE": 271, "Unigram": 271, "WordPiece": 23}[algorithm]
    assert learn(algorithm, texts, size).vocab_size == size
    with pytest.raises(ValueError, match="none of"):
        learn("Morse", texts, 271)


def test_counts_and_what_is_made_of_them():
    counts = costs(ByteBPE([]), {"en": ["a b"], "zh": ["湖"], CODE: ["x=1"]})
    assert counts == {"en": [3, 2, 3, 3, 0], "zh": [3, 1, 1, 3, 0], CODE: [3, 3, 3, 3, 0]}
    run = {"costs": counts}
    assert (ratio(run, "en", "words"), ratio(run, "zh", "characters")) == (1.5, 3.0)
    assert premium(run, "zh") == 1.0
    assert len(COUNTS) == 5


def runs(algorithm: str, text: str, size: int = SIZE) -> list[Run]:
    wanted = {"algorithm": algorithm, "text": text, "size": size}
    found = [run for run in read_runs(NAME) if wanted.items() <= run.items()]
    return sorted(found, key=lambda run: run["seed"])


def test_the_record_holds_every_run_once():
    identity = ("algorithm", "text", "size", "seed")
    found = [{key: run[key] for key in identity if key in run} for run in read_runs(NAME)]
    assert sorted(found, key=str) == sorted(plan(), key=str)
    for run in read_runs(NAME):
        assert set(run["costs"]) == {*LANGUAGES, CODE}
        assert run["costs"]["zh"][2:4] == next(
            other["costs"]["zh"][2:4] for other in read_runs(NAME) if other["seed"] == run["seed"]
        )


@pytest.mark.covers("data.tokenize-quality")
@pytest.mark.parametrize("size", BPE_SIZES)
def test_an_english_vocabulary_makes_chinese_pay_and_a_mixed_one_does_not(size: int):
    """Same messages, unseen; the lower ends of 95% intervals over three splits."""
    english, mixed = runs("byte BPE", "english", size), runs("byte BPE", "mixed", size)
    assert [run["seed"] for run in english] == [run["seed"] for run in mixed] == list(SEEDS)
    assert t_interval([premium(run, "zh") for run in english])[1] > (2 if size > 1000 else 1.5)
    assert t_interval([premium(run, "zh") for run in mixed])[2] < 1.5
    pairs = list(zip(english, mixed, strict=True))
    saved = [ratio(a, "zh", "characters") / ratio(b, "zh", "characters") for a, b in pairs]
    assert t_interval(saved)[1] > (2 if size >= 4000 else 1)
    for code in FOREIGN:
        saved = [ratio(a, code, "characters") - ratio(b, code, "characters") for a, b in pairs]
        assert t_interval(saved)[1] > 0, code


@pytest.mark.covers("data.tokenize-quality")
def test_the_mixed_vocabulary_is_paid_for_by_english_and_code():
    pairs = list(zip(runs("byte BPE", "english"), runs("byte BPE", "mixed"), strict=True))
    for code in ("en", CODE):
        more = [ratio(b, code, "bytes") / ratio(a, code, "bytes") for a, b in pairs]
        mean, low, high = t_interval(more)
        assert low > 1 and high < 1.5, code


@pytest.mark.covers("data.tokenize-quality")
def test_a_published_english_vocabulary_does_the_same_with_49152_tokens():
    published = [run for run in read_runs(NAME) if run["algorithm"] == "SmolLM2"]
    assert {run["vocab_size"] for run in published} == {49152}
    for code in WITHOUT_LATIN:
        assert t_interval([premium(run, code) for run in published])[1] > 2, code


@pytest.mark.covers("data.tokenize-quality")
def test_three_kinds_of_vocabulary_of_one_size():
    """Unigram takes more tokens than byte-level BPE for English; WordPiece gives Chinese up."""
    pairs = zip(runs("byte BPE", "mixed"), runs("Unigram", "mixed"), strict=True)
    more = [ratio(b, "en", "bytes") / ratio(a, "en", "bytes") for a, b in pairs]
    assert t_interval(more)[1] > 1
    for text in ("english", "mixed"):
        lossless = runs("byte BPE", text) + runs("Unigram", text)
        assert all(run["costs"][code][4] == 0 for run in lossless for code in LANGUAGES)
    unknown = [
        run["costs"]["zh"][4] / run["costs"]["zh"][0] for run in runs("WordPiece", "english")
    ]
    assert t_interval(unknown)[1] > 0.8
