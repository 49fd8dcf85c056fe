"""Exact deduplication after normalization."""

import json
import runpy
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.core import resource
from llmlib.data import Document
from llmlib.data.deduplication.exact import (
    Normalization,
    deduplicate_exact,
    matching_digest,
    normalize_for_matching,
)


def corpus(*texts: str) -> list[Document]:
    return [Document(text=text, source=f"d{i}") for i, text in enumerate(texts)]


def labelled_pairs() -> list[dict]:
    with resource("deduplication/documents.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def precision_recall(rules: Normalization | None) -> tuple[float, float]:
    """Of 200 pairs judged as the same document or not, by whether one of the two is dropped."""
    found = [
        (bool(deduplicate_exact(corpus(pair["a"], pair["b"]), rules)[1]), pair["same"])
        for pair in labelled_pairs()
    ]
    hits = sum(dropped and same for dropped, same in found)
    return hits / sum(dropped for dropped, _ in found), hits / sum(same for _, same in found)


def test_the_labelled_pairs_are_balanced_and_hold_every_kind_of_near_miss():
    pairs = labelled_pairs()
    assert len(pairs) == 200
    assert sum(pair["same"] for pair in pairs) == 100
    kinds = {pair["kind"] for pair in pairs}
    assert {"case", "white space", "composition", "number", "word", "negation"} <= kinds
    assert len({(pair["a"], pair["b"]) for pair in pairs}) == 200


@pytest.mark.covers("data.dedup-exact")
def test_precision_and_recall_on_the_labelled_pairs():
    assert precision_recall(None) == (1.0, 0.96)
    # The compatibility form finds the full-width copies too, and takes exponents for digits.
    assert precision_recall(Normalization(form="NFKC")) == (100 / 106, 1.0)
    bytes_only = Normalization(case=False, white_space=False, form=None, invisible=False)
    assert precision_recall(bytes_only) == (1.0, 0.04)


@pytest.mark.covers("data.dedup-exact")
def test_each_switch_alone_decides_its_own_difference():
    differences = {
        "case": ("Straße 7", "STRASSE 7"),
        "white_space": ("one two", " one\u00a0 \n two"),
        "form": ("caf\u00e9", "cafe\u0301"),
        "invisible": ("co\u00adoperate", "cooperate"),
    }
    off = {"case": False, "white_space": False, "form": None, "invisible": False}
    for switch, (a, b) in differences.items():
        without = Normalization(**(vars(Normalization()) | {switch: off[switch]}))
        assert normalize_for_matching(a) == normalize_for_matching(b)
        assert normalize_for_matching(a, without) != normalize_for_matching(b, without), switch


def test_plain_ascii_takes_the_same_rules():
    assert normalize_for_matching(" One\n TWO ") == "one two"
    assert normalize_for_matching(" One\n TWO ", Normalization(case=False)) == "One TWO"
    assert normalize_for_matching("One\n TWO ", Normalization(white_space=False)) == "one\n two "


def test_folding_that_opens_a_composition_is_composed_again():
    # A long s with a dot folds to an s with a dot, which then takes the dot below in.
    assert normalize_for_matching("\u1e9b\u0323") == normalize_for_matching("\u1e69") == "\u1e69"


def test_the_first_copy_stays_and_the_others_name_it():
    kept, dropped = deduplicate_exact(iter(corpus("A b.", "C.", "a  B.", "c.", "a b.")))
    assert [document.source for document in kept] == ["d0", "d1"]
    assert [(d.document.source, d.reason) for d in dropped] == [
        ("d2", "duplicate of d0"),
        ("d3", "duplicate of d1"),
        ("d4", "duplicate of d0"),
    ]
    assert kept[0].text == "A b."  # as it came


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(), max_size=23), st.sampled_from(["NFC", "NFKC", None]))
def test_normalizing_twice_changes_nothing(text, form):
    rules = Normalization(form=form)
    once = normalize_for_matching(text, rules)
    assert normalize_for_matching(once, rules) == once


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=23))
def test_canonically_equal_texts_share_a_digest(text):
    assert matching_digest(unicodedata.normalize("NFD", text)) == matching_digest(text)


def test_every_character_that_a_form_or_the_case_changes_settles():
    plain = Normalization(case=False, form=None)
    changed = [
        character
        for character in map(chr, range(0x30000))  # beyond lie only ideographs and private use
        if unicodedata.normalize("NFKC", character).casefold() != character
    ]
    assert len(changed) > 5000
    for rules in (Normalization(), Normalization(form="NFKC"), plain):
        for character in changed:
            once = normalize_for_matching("a" + character, rules)
            assert normalize_for_matching(once, rules) == once, hex(ord(character))


def test_the_committed_pairs_are_what_their_script_makes(tmp_path):
    script = runpy.run_path(str(Path(__file__).with_name("make_labelled_items.py")))
    script["write"](tmp_path)
    for path in tmp_path.iterdir():
        committed = resource(f"deduplication/{path.name}")
        assert committed.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_lone_surrogates_are_compared_too():
    assert len(deduplicate_exact(corpus("a\ud800", "A\ud800 ", "a\ud801"))[0]) == 2
