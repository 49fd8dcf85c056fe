"""What every tokenizer keeps to: nothing special out of text, files whole, clear refusals."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmlib.data.tokenizers import (
    ByteBPE,
    CharacterBPE,
    Normalizer,
    PretrainedBPE,
    RankBPE,
    SentencePieceModel,
    Tokenizer,
    TrainableTokenizer,
    Unigram,
    WordPiece,
)

PROSE = [
    "The theorem holds for every graph; the graph's edges are the pairs it's given.",
    "\n    Examples\n    ========\n\n    >>> print(2 + 2)\n    4\n",
    "Señor Ångström mißt 深い湖 — naïve 🙂🙂 test, test, testing the tester's tests.",
] * 3
END, PAD = "<|end|>", "<|pad|>"
LOSSLESS = [
    ByteBPE.train(PROSE, 331, [END, PAD]),
    CharacterBPE.train(PROSE, 367, [END, PAD]),
    Unigram.train(PROSE, 353, [END, PAD], coverage=0.97),
]
SAVED = [*LOSSLESS, WordPiece.train(PROSE, 97, ["[UNK]", END, PAD])]
BYTES = {bytes([byte]): byte for byte in range(256)}
LETTERS = {letter: i for i, letter in enumerate("abcdenopstw<|>", 7)}
TRAINED = [*SAVED, SentencePieceModel.train(PROSE, 61, [END, PAD])]
ALL = [*TRAINED, RankBPE(BYTES, {END: 256, PAD: 271}), PretrainedBPE(LETTERS, [], {END: 3, PAD: 1})]


def name(tokenizer: object) -> str:
    return type(tokenizer).__name__


@pytest.mark.parametrize("tokenizer", LOSSLESS, ids=name)
@given(text=st.text(max_size=97))
@example(text="\x00\x1c\u2028\r\n \u0301é\U0010ffff")
@example(text="</w> ## \u2581 <0x41><|end|>")
@pytest.mark.covers("data.tokenize-unigram")
def test_lossless_on_any_text(tokenizer: Any, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(i >= 2 for i in ids)  # no special token out of user text
    (array,) = tokenizer.encode_batch([text])
    assert array.tolist() == ids and array.dtype == "uint16"


@pytest.mark.parametrize("tokenizer", ALL, ids=name)
def test_special_tokens_count_only_where_allowed(tokenizer: Any) -> None:
    end, pad = tokenizer.special_tokens[END], tokenizer.special_tokens[PAD]
    text = f"one{END}{PAD}"
    for ids in (tokenizer.encode(text), tokenizer.encode(END), *tokenizer.encode_batch([text])):
        assert not {end, pad} & set(map(int, ids))
    allowed = tokenizer.encode(text, {END})
    assert allowed.count(end) == 1 and pad not in allowed
    assert tokenizer.encode(text, {END, PAD}) == [*tokenizer.encode("one"), end, pad]
    with pytest.raises(ValueError, match=r"not special tokens: \['<\|eot\|>'\]"):
        tokenizer.encode(text, {"<|eot|>"})
    with pytest.raises(ValueError, match="is one string"):
        tokenizer.encode(text, END)


@pytest.mark.parametrize("tokenizer", ALL, ids=name)
def test_what_is_no_text_and_what_is_no_id_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=r"lone surrogate \(U\+DC80\)"):
        tokenizer.encode("ok \udc80")
    with pytest.raises(ValueError, match=r"text 1 of the batch: .*U\+D800"):
        tokenizer.encode_batch(["fine", "\ud800"])
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match=f"token id {wrong} is not in the vocabulary"):
            tokenizer.decode([*tokenizer.encode("a"), wrong])


@pytest.mark.parametrize("kind", [*map(type, TRAINED)])
def test_what_cannot_be_learnt_from_is_refused(kind: Any) -> None:
    for special, message in (("<|a|>", "is one string"), (["<|a|>"] * 2, "given twice")):
        with pytest.raises(ValueError, match=message):
            kind.train(PROSE, 400, special)
    with pytest.raises(ValueError, match="texts is one string"):
        kind.train("ab ab cd", 400)
    with pytest.raises(ValueError, match=r"text 1 of the corpus: .*lone surrogate \(U\+D800\)"):
        kind.train(["abc", "\ud800"], 400)


@pytest.mark.parametrize("tokenizer", SAVED, ids=name)
def test_saved_and_loaded(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "tokenizer.json"
    tokenizer.save(path)
    again = type(tokenizer).load(path)
    assert again.sha256 == tokenizer.sha256
    assert again.special_tokens == tokenizer.special_tokens
    assert [again.encode(text) for text in PROSE] == [tokenizer.encode(text) for text in PROSE]
    sent = pickle.loads(pickle.dumps(tokenizer))  # as worker processes get it
    assert sent.encode(PROSE[2]) == tokenizer.encode(PROSE[2])


@pytest.mark.parametrize(
    ("tokenizer", "change"),
    [*zip(SAVED, ("merges", "merges", "pieces", "tokens"), strict=True)],
    ids=[name(tokenizer) for tokenizer in SAVED],
)
def test_files_that_are_not_whole(tokenizer: Any, change: str, tmp_path: Path) -> None:
    path, kind = tmp_path / "tokenizer.json", type(tokenizer)
    tokenizer.save(path)
    whole = path.read_text(encoding="utf-8")
    content = json.loads(whole)
    cases = {
        whole[: len(whole) // 2]: "cut short",
        "[]": f"not a saved {kind.__name__}",
        json.dumps({**content, "format": "other"}): f"not a saved {kind.__name__}",
        json.dumps({**content, "version": 2}): "has version 2 .* reads version 1",
        json.dumps({**content, change: content[change][:-1]}): "been changed since",
        json.dumps({**content, change: [7]}): "not a whole tokenizer",
        json.dumps({k: v for k, v in content.items() if k != change}): "not a whole tokenizer",
    }
    for text, message in cases.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            kind.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cut short or is not a saved tokenizer"):
        kind.load(path)


def test_the_hashes_in_files_that_were_saved_before_are_still_right() -> None:
    marks: dict[str, Any] = {"end_of_word": "</w>", "continuing": "##", "byte_fallback": False}
    marks |= {"normalizer": Normalizer(form="NFC"), "cut": "bert"}
    for tokenizer, sha256 in (
        (ByteBPE([(66, 67), (258, 68)], ["<|a|>", "<|b|>"]), "1028909c535e1c42"),
        (CharacterBPE(["a", "##b"], [("a", "##b")], ["<unk>"], **marks), "ffabd986d94c4cdd"),
        (Unigram([("a", -1.5), ("湖", -2.0)], ["<s>"], cut="none"), "ad98f8040c6793cf"),
        (WordPiece(["[UNK]", "a", "##b"], ["[UNK]"]), "01cc41ad26a70660"),
    ):
        assert tokenizer.sha256.startswith(sha256)


def test_the_protocols() -> None:
    assert all(isinstance(tokenizer, Tokenizer) for tokenizer in ALL)
    assert all(isinstance(tokenizer, TrainableTokenizer) for tokenizer in TRAINED)
    assert not any(isinstance(tokenizer, TrainableTokenizer) for tokenizer in ALL[len(TRAINED) :])
    assert all(len(tokenizer.tokens) == tokenizer.vocab_size for tokenizer in TRAINED[1:])
