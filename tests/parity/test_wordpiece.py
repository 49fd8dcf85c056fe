"""WordPiece against Hugging Face tokenizers: encoding equal, training equal as far as it can be."""

import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer

from llmlib.data import fixed_corpus, king_james
from llmlib.data.tokenizers import Normalizer, WordPiece
from llmlib.data.tokenizers.normalization import BERT_UNCASED
from llmlib.data.tokenizers.words_and_digits import bert_words

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FOREIGN = [
    "Señor mißt 深い湖 🙂 \x1c\x85\u2028 ١٢٣ ½ e\u0301 İstanbul ΣΑΣ ＡＢ",
    "don't C++ $5.00 a_b\x00c\ufffdd\u200b e\u00adf 中文abc한국어 かな",
    "x" * 101 + " " + "y" * 100,
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    chosen = random.Random(3).sample(list(dict.fromkeys(d.text for d in fixed_corpus())), 401)
    return chosen + [chapter.text for chapter in king_james()[:11]]


def reference(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)  # pyright: ignore
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    return tokenizer


@pytest.mark.covers("data.tokenize-wordpiece")
def test_encoding_with_the_same_vocabulary_is_the_same(texts: list[str]) -> None:
    ours = WordPiece.train(texts, 2003, SPECIAL)
    ids = {token: i for i, token in enumerate(ours.tokens)}
    theirs = reference(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    for text in texts + FOREIGN:
        assert ours.encode(text) == theirs.encode(text).ids


def is_settled(c: str) -> bool:
    """Whether a character's category has stayed since 2002: the libraries' tables differ in age."""
    return unicodedata.category(c) == unicodedata.ucd_3_2_0.category(c)


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=0x2FFF).filter(is_settled), max_size=31))
def test_basic_tokenization(text: str) -> None:
    """Over the alphabets whose properties both Unicode versions agree on."""
    if any(Normalizer(form="NFD")(c) != c and ord(c) > 0x24F for c in text):
        return  # decompositions that came after the other library's tables
    theirs = normalizers.BertNormalizer(lowercase=True).normalize_str(text)
    cut = [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(theirs)]
    assert bert_words(BERT_UNCASED(text)) == cut


@pytest.mark.covers("data.tokenize-wordpiece")
def test_their_trainer_is_byte_pair_encoding(texts: list[str]) -> None:
    """With pairs chosen by count the vocabularies are equal; by likelihood they are not.

    Their order of `##x` characters changes from run to run, so ours is given theirs.
    """
    theirs = reference(models.WordPiece(unk_token="[UNK]"))
    trainer = trainers.WordPieceTrainer(
        vocab_size=1009, special_tokens=SPECIAL, min_frequency=2, show_progress=False
    )
    theirs.train_from_iterator(texts, trainer)
    tokens = [token for token, _ in sorted(theirs.get_vocab().items(), key=lambda item: item[1])]
    alphabet = [t for t in tokens if t not in SPECIAL and len(t.removeprefix("##")) == 1]
    by_count = WordPiece.train(texts, 1009, SPECIAL, score="count", alphabet=alphabet)
    assert by_count.tokens == tokens
    merged = {
        score: set(WordPiece.train(texts, 1009, SPECIAL, score=score).tokens) - set(alphabet)
        for score in ("ratio", "gain")
    }
    theirs_merged = set(tokens) - set(alphabet)
    shared = {s: len(m & theirs_merged) / len(theirs_merged) for s, m in merged.items()}
    assert shared["ratio"] < 0.5 < shared["gain"] < 1


def test_a_vocabulary_file_read_as_transformers_reads_it(texts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WordPiece.train(texts[:101], 701, SPECIAL).tokens) + "\n", "utf-8")
    ours = WordPiece.from_vocabulary_file(path)
    theirs = BertTokenizer(vocab=str(path))
    for text in texts[:23] + FOREIGN:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
