"""What normalization makes equal, where each character came from, and what cannot come back."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlib.data.tokenizers import CharacterBPE, Normalizer, Unigram
from llmlib.data.tokenizers.normalization import BERT_UNCASED, byte_pieces, independent_segments
from llmlib.data.tokenizers.words_and_digits import CUTS, split_digits

FORMS = ["NFC", "NFD", "NFKC", "NFKD"]
# Characters that compose with, decompose into or stand after others.
TRICKY = "aeﬁ½²éÅ\u0301\u0323\u3099\uff9eｶ\u1100\u1161\u11a8각\u09c7\u09be湖 \n🙂\u200d"
PIECES = [(c, -3.0) for c in "abcdefi 12湖"]


@settings(deadline=None)
@given(st.text(alphabet=TRICKY, max_size=17) | st.text(max_size=17), st.sampled_from(FORMS))
@example("\u1100\u1161\u11a8", "NFC")
@example("\u09c7\u09be", "NFC")
def test_forms_are_unicodes_and_segments_are_independent(text: str, form) -> None:
    normal = Normalizer(form=form)
    segments = independent_segments(text)
    assert "".join(segments) == text
    assert normal(text) == unicodedata.normalize(form, text) == "".join(map(normal, segments))
    assert normal(normal(text)) == normal(text)


@settings(deadline=None)
@given(
    st.text(alphabet=TRICKY + "AÀİΣ\x00\ufffd\u2028", max_size=17),
    st.booleans(),
    st.sampled_from([None, *FORMS]),
    st.booleans(),
    st.booleans(),
)
@example("e\u0301é", False, "NFC", False, False)
@example("\u0301\x00\u3099", True, "NFC", False, False)  # a removed character between two marks
@pytest.mark.covers("data.tokenize-normalization")
def test_offsets_point_to_where_each_character_came_from(
    text: str, clean: bool, form, strip: bool, lower: bool
) -> None:
    normal = Normalizer(clean=clean, form=form, strip_accents=strip, lowercase=lower)
    out, offsets = normal.with_offsets(text)
    assert out == normal(text)
    assert len(offsets) == len(out) + 1 and offsets[-1] == len(text)
    assert (np.diff(offsets) >= 0).all()
    for at in range(1, len(out) + 1):
        if offsets[at] > offsets[at - 1]:  # what stands before is made of what stood before
            assert normal(text[: offsets[at]]) == out[:at]


@pytest.mark.parametrize("alphabet", [st.characters(codec="utf-8"), st.sampled_from(TRICKY + "▁")])
@pytest.mark.covers("data.tokenize-normalization")
def test_byte_fallback_loses_nothing(alphabet) -> None:
    """Any text comes back from a vocabulary of eleven characters and 256 bytes."""
    unigram, bpe = Unigram(PIECES), CharacterBPE([c for c, _ in PIECES], [("a", "b")])

    @settings(deadline=None)
    @given(st.text(alphabet, max_size=23))
    def check(text: str) -> None:
        for tokenizer in (unigram, bpe):
            assert tokenizer.decode(tokenizer.encode(text)) == text

    check()


@pytest.mark.covers("data.tokenize-normalization")
def test_nfkc_loses_what_it_makes_equal() -> None:
    """The same ids for texts that mean different things: no decoder can tell them apart."""
    lossy = Unigram(PIECES, normalizer=Normalizer(form="NFKC"))
    for text, comes_back in {
        "2²": "22",
        "ﬁ": "fi",
        "½": "1⁄2",
        "Ⅳ": "IV",
        "e\u0301": "é",
        "ｆ": "f",
        "a\xa0b": "a b",
        "…": "...",
    }.items():
        assert lossy.decode(lossy.encode(text)) == comes_back != text
        assert lossy.encode(text) == lossy.encode(comes_back)
    # NFC is milder but loses too: which of two spellings it was.
    milder = Unigram(PIECES, normalizer=Normalizer(form="NFC"))
    assert milder.decode(milder.encode("2²ﬁ")) == "2²ﬁ"
    assert milder.decode(milder.encode("e\u0301")) == "é"


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab 129٣½", max_size=11)))
def test_digits_stand_alone(pieces: list[str]) -> None:
    cut = split_digits(pieces)
    assert "".join(cut) == "".join(pieces)
    assert all(len(piece) == 1 or not any(c.isdecimal() for c in piece) for piece in cut)


@settings(deadline=None)
@given(st.text(max_size=29))
@example(" 12  345\n½٣")
def test_cuts_that_lose_nothing(text: str) -> None:
    for name in ("gpt2", "gpt2-digits", "none"):
        assert "".join(CUTS[name](text)) == text
    digits = [piece for piece in CUTS["gpt2-digits"](text) if any(c.isdecimal() for c in piece)]
    assert all(len(piece) == 1 for piece in digits)


@pytest.mark.covers("data.tokenize-normalization")
def test_with_single_digits_no_token_spells_a_number() -> None:
    texts = ["in 1984 and 1985, 1984 + 1984 = 3968"] * 7
    for kind, size in ((Unigram, 276), (CharacterBPE, 277)):
        whole = kind.train(texts, size, cut="gpt2")
        single = kind.train(texts, size, cut="gpt2-digits")
        spelt = [[t.tokens[i] for i in t.encode("in 1984")] for t in (whole, single)]
        assert any("198" in token for token in spelt[0])
        assert [token for token in spelt[1] if token.strip().isdigit()] == ["1", "9", "8", "4"]


def test_bert_uncased() -> None:
    assert BERT_UNCASED("Ångström\tİ\x00\u200b.") == "angstrom i."
    # One entry a character: the sigma at the end of a word is as any other.
    assert Normalizer(lowercase=True)("ΣΑΣ") == "σασ"


def test_names_of_bytes() -> None:
    assert byte_pieces()[10] == "<0x0A>" and len(set(byte_pieces())) == 256
    with pytest.raises(ValueError, match="form="):
        Normalizer(form="NFX")
