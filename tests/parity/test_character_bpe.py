"""Character-level BPE: the merges and ids of Hugging Face tokenizers with the same settings."""

import json
import random
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from llmlib.data import fixed_corpus
from llmlib.data.tokenizers import CharacterBPE


@pytest.mark.slow
@pytest.mark.covers("data.tokenize-bpe")
@pytest.mark.parametrize(
    ("end", "inside"), [("", ""), ("</w>", ""), ("", "##")], ids=["plain", "suffix", "prefix"]
)
def test_docstring_corpus(end: str, inside: str) -> None:
    texts = random.Random(3).sample(list(dict.fromkeys(d.text for d in fixed_corpus())), 211)
    marks: dict[str, Any] = {"end_of_word_suffix": end} if end else {}
    marks |= {"continuing_subword_prefix": inside} if inside else {}
    theirs = Tokenizer(models.BPE(unk_token="<unk>", **marks))
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=701, special_tokens=["<unk>"], show_progress=False, **marks
    )
    theirs.train_from_iterator(texts, trainer)
    model = json.loads(theirs.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    # Marked characters get their ids in an order that changes from run to run: ours takes theirs.
    bare = [t.removesuffix(end).removeprefix(inside) if end or inside else t for t in tokens]
    alphabet = [t for t, letter in zip(tokens, bare, strict=True) if len(letter) == 1]
    ours = CharacterBPE.train(
        texts,
        701,
        ["<unk>"],
        end_of_word=end,
        continuing=inside,
        byte_fallback=False,
        cut="whitespace",
        alphabet=alphabet,
    )
    assert ours.tokens == tokens
    assert [list(merge) for merge in ours.merges] == [list(merge) for merge in model["merges"]]
    if not (end or inside):
        assert alphabet == sorted(alphabet)  # our own order, where theirs is fixed
    for text in [*texts[:101], "深い lower湖 ≠ Ünseen 🙂"]:
        assert ours.encode(text) == theirs.encode(text).ids
