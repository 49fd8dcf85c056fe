"""Same merges and same ids as Hugging Face tokenizers' byte-level BPE on the same text."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, trainers

from llmlib.data import ByteBPE, fixed_corpus, king_james

SPECIAL = ["<|endoftext|>", "<|pad|>"]


def train_reference(texts: list[str], vocab_size: int, min_frequency: int = 1) -> Tokenizer:
    reference = Tokenizer(models.BPE())
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    reference.train_from_iterator(texts, trainer)
    return reference


def reference_merges(reference: Tokenizer) -> list[tuple[int, int]]:
    ids = reference.get_vocab()
    rows = json.loads(reference.to_str())["model"]["merges"]
    return [(ids[first], ids[second]) for first, second in rows]


@pytest.mark.slow
@pytest.mark.covers("data.tokenize-bpe")
def test_docstring_corpus_8192() -> None:
    texts = list(dict.fromkeys(document.text for document in fixed_corpus()))
    reference = train_reference(texts, 8192)
    ours = ByteBPE.train(texts, 8192, SPECIAL)
    assert ours.merges == reference_merges(reference)
    assert ours.vocab_size == reference.get_vocab_size() == 8192
    sample = random.Random(7).sample(texts, 2003)
    batch = ours.encode_batch(sample)
    for text, ids in zip(sample, batch, strict=True):
        assert ids.tolist() == reference.encode(text).ids
    # Text of another register, and every kind of character that occurs in it.
    foreign = [chapter.text for chapter in king_james()[:101]]
    foreign += [
        "Señor mißt 深い湖 🙂\u200d🙂 \x1c\x85\u2028 ١٢٣ ½ e\u0301",
        "=" * 997,
        " " * 401 + "a",
    ]
    for text in foreign:
        assert ours.encode(text) == reference.encode(text).ids


@given(
    st.lists(st.text(alphabet="aab -=\nÅ", max_size=41), min_size=1, max_size=5),
    st.integers(258, 283),
)
@settings(max_examples=200)
def test_small_texts_with_long_runs(texts: list[str], vocab_size: int) -> None:
    """In runs such as ----- a pair overlaps itself, where counting is easiest to get wrong."""
    reference = train_reference(texts, vocab_size)
    merges = reference_merges(reference)
    try:
        ours = ByteBPE.train(texts, vocab_size, SPECIAL)
    except ValueError as error:
        assert f"after {len(merges)} merges" in str(error)
        ours = ByteBPE(merges, SPECIAL)
        assert ours.vocab_size == reference.get_vocab_size()
    assert ours.merges == merges
    for text in texts:
        assert ours.encode(text) == reference.encode(text).ids


def test_the_trainer_that_leaves_out_rare_pairs(tmp_path) -> None:
    texts = [chapter.text for chapter in king_james()[:53]]
    reference = ByteLevelBPETokenizer(add_prefix_space=False)
    reference.train_from_iterator(
        texts, vocab_size=1013, min_frequency=3, special_tokens=SPECIAL, show_progress=False
    )
    ours = ByteBPE.train(texts, 1013, SPECIAL, min_frequency=3)
    assert ours.merges == reference_merges(reference._tokenizer)  # pyright: ignore
    assert ours.encode(texts[0]) == reference.encode(texts[0]).ids
