"""Counts of what a tokenizer costs, and who pays: text unlike the training text."""

import csv
import math

import pytest
from babel import Locale

from llmlib.core import resource
from llmlib.data import king_james
from llmlib.data.tokenizers import (
    CharacterBPE,
    Tokenizer,
    Unigram,
    WordPiece,
    tokenizer_quality,
)
from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
from llmlib.data.tokenizers.files.pretrained_bpe import PretrainedBPE

# The same two sentences, written for this test.
SAME = {
    "English": "The river was high after the rain. We waited on the bridge until it was dark.",
    "German": "Der Fluss stand nach dem Regen hoch. Wir warteten auf der Brücke bis in die Nacht.",
    "French": "La rivière était haute après la pluie. Nous avons attendu sur le pont la nuit.",
    "Spanish": "El río estaba alto tras la lluvia. Esperamos en el puente hasta que oscureció.",
    "Russian": "Река поднялась после дождя. Мы ждали на мосту, пока не стемнело.",
    "Chinese": "雨后河水上涨。我们在桥上一直等到天黑。",
    "code": "def wait(bridge, rain):\n    while not dark(rain):\n        bridge.stay(1)\n",
}
ENGLISH = [
    SAME["English"],
    "In the morning the water was lower and we walked home along the river.",
    "The bridge was old, and after the rain the stones were dark and wet.",
] * 11


def test_counts_by_hand() -> None:
    text = "don't go, 湖!"
    quality = tokenizer_quality(ByteBPE([]), [text, ""])
    # don ' t go , 湖 ! are seven words; the ideograph takes three bytes.
    assert (quality.tokens, quality.words, quality.characters) == (len(text) + 2, 7, len(text))
    assert quality.bytes == quality.tokens and quality.unknown == 0
    assert quality.fertility == (len(text) + 2) / 7 and quality.bytes_per_token == 1.0
    assert quality.tokens_per_character == (len(text) + 2) / len(text)


def test_unknown_share() -> None:
    pieces = WordPiece(["[UNK]", "a", "##b"], ["[UNK]"])
    quality = tokenizer_quality(pieces, ["ab x a"])
    assert (quality.tokens, quality.unknown, quality.unknown_share) == (4, 1, 0.25)
    unigram = Unigram([("a", -1.0)], ["<unk>"], byte_fallback=False)
    assert tokenizer_quality(unigram, ["aba"]).unknown_share == pytest.approx(1 / 3)
    assert tokenizer_quality(unigram, ["aba"], unknown="a").unknown == 2
    assert tokenizer_quality(Unigram([("a", -1.0)]), ["aba"]).unknown == 0
    with pytest.raises(ValueError, match="no token"):
        tokenizer_quality(unigram, ["a"], unknown="[UNK]")


def test_a_published_tokenizer_is_counted_too() -> None:
    letters = {"a": 7, "b": 8, "ab": 11}
    published = PretrainedBPE(letters, [("a", "b")], {"<unk>": 3})
    assert isinstance(published, Tokenizer)
    quality = tokenizer_quality(published, ["abba"])
    assert (quality.tokens, quality.bytes, quality.unknown) == (3, 4, 0)


def test_nothing_has_no_averages() -> None:
    quality = tokenizer_quality(ByteBPE([]), [])
    assert quality.tokens == 0
    averages = (quality.fertility, quality.bytes_per_token, quality.tokens_per_character)
    assert all(map(math.isnan, (*averages, quality.unknown_share)))


@pytest.mark.covers("data.tokenize-quality")
def test_chinese_pays_twice_for_an_english_vocabulary() -> None:
    """Tokens per character on six languages and code, English-trained against mixed.

    The mixed vocabulary has seen these very texts, so this is the most that mixing can gain.
    """
    bible = [chapter.text for chapter in king_james()[:23]]
    english = ByteBPE.train(bible, 1009)
    mixed = ByteBPE.train(bible + [text for text in SAME.values() for _ in range(101)], 1009)
    cost = {name: costs(text, english, mixed) for name, text in SAME.items()}
    assert cost["Chinese"][0] >= 2 * cost["Chinese"][1]
    assert cost["Chinese"][0] >= 2 * cost["English"][0]
    for name in set(SAME) - {"English"}:
        assert cost[name][0] > cost["English"][0]
        assert cost[name][1] < cost[name][0]


@pytest.mark.covers("data.tokenize-quality")
def test_text_that_no_vocabulary_has_seen() -> None:
    """Trained on the names of languages and countries, measured on sentences (five a language).

    For the English vocabulary a Chinese character is always three tokens, 4.5 times an English
    one; the mixed one brings it to 2.2, a saving of a quarter and not the half of seen text.
    """
    languages = ["en", "de", "fr", "es", "ru", "zh", "ja", "ar"]
    names = {
        code: [*Locale.parse(code).languages.values(), *Locale.parse(code).territories.values()]
        for code in languages
    }
    english = ByteBPE.train(names["en"], 2003)
    mixed = ByteBPE.train([name for code in languages for name in names[code]], 2003)
    with resource("cleaning/sentences.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    sentences = {
        code: "\n".join(row["text"] for row in rows if row["language"] == code)
        for code in languages
    }
    cost = {code: costs(text, english, mixed) for code, text in sentences.items()}
    assert cost["zh"][0] > 2.8 and cost["zh"][0] > 2 * cost["en"][0]
    assert 1.2 < cost["zh"][0] / cost["zh"][1] < 2
    assert cost["ru"][0] > 2 * cost["ru"][1] and cost["ar"][0] > 2 * cost["ar"][1]


def costs(text: str, *tokenizers: ByteBPE) -> list[float]:
    return [tokenizer_quality(bpe, [text]).tokens_per_character for bpe in tokenizers]


def test_fallback_trades_unknowns_for_tokens() -> None:
    bytes_too = CharacterBPE.train(ENGLISH, 331)
    unknown = CharacterBPE.train(ENGLISH, 76, byte_fallback=False)
    assert bytes_too.merges == unknown.merges
    costs = [tokenizer_quality(bpe, [SAME["Chinese"]]) for bpe in (bytes_too, unknown)]
    assert costs[0].unknown == 0 and costs[1].unknown_share > 0.9
    assert costs[0].tokens > 2.5 * costs[1].tokens
