"""The page on tokenizer files says what is so: every row of its tables is tried."""

import base64
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tiktoken
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llmlib.data.tokenizers import PretrainedBPE, RankBPE, SentencePieceModel
from llmlib.data.tokenizers.chat_template import ChatTemplate
from llmlib.data.tokenizers.files.patterns import check_pattern
from llmlib.data.tokenizers.pretokenization import GPT2_PATTERN, cut_by

PAGE = Path(__file__).parents[3] / "book" / "tokenizer_files.md"
ROW = re.compile(r"^\| `(.+?)` \| (read|refused) \|", re.MULTILINE)
SECTIONS = {
    section.split("\n")[0]: [(s.replace(r"\|", "|"), here) for s, here in ROW.findall(section)]
    for section in PAGE.read_text("utf-8").split("\n## ")[1:]
}
RNG = random.Random(11)
PARTS = [
    *("the", "cat", " ", "  ", "é", "e\u0301", "12", "345", "<m>", "<sep>", "ﬁ", "fi", "\n", "\t"),
    *("'s", "'ſ", "漢", "a", "aa", "ab", "²", "İ", "ß", "▁", "xcat", "cat_", "."),
]
TEXTS = ["".join(RNG.choices(PARTS, k=RNG.randrange(12))) for _ in range(150)]
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def rows(section: str) -> Any:
    return pytest.mark.parametrize(("setting", "here"), SECTIONS[section])


def test_every_row_of_the_page_is_tried() -> None:
    table_rows = re.findall(r"^\|(?! Setting |---)", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sum(map(len, SECTIONS.values())) == len(table_rows) > 70


def file_of(changes: dict[str, Any]) -> dict[str, Any]:
    merges = [("t", "h"), ("th", "e"), ("Ġ", "c"), ("Ġc", "a"), ("c", "a"), ("ca", "t")]
    vocabulary = {letter: i for i, letter in enumerate(LETTERS)}
    for first, second in merges:
        vocabulary[first + second] = len(vocabulary)
    vocabulary["345"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    content = json.loads(tokenizer.to_str())
    content["model"] |= changes.get("model", {})
    flags = dict.fromkeys(("special", "single_word", "lstrip", "rstrip", "normalized"), False)
    changes["added_tokens"] = [flags | token for token in changes.get("added_tokens", ())]
    for token in changes["added_tokens"]:  # the library numbers them without gaps
        token["id"] = vocabulary.get(token["content"], len(vocabulary))
    return content | {name: part for name, part in changes.items() if name != "model"}


@rows("`tokenizer.json`")
def test_tokenizer_json(setting: str, here: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file_of(json.loads(setting))))
    if here == "refused":
        with pytest.raises(ValueError):
            PretrainedBPE.from_folder(tmp_path)
        return
    ours, theirs = PretrainedBPE.from_folder(tmp_path), Tokenizer.from_file(str(path))
    before, behind = ours.frame
    for text in TEXTS:
        ids = theirs.encode(text).ids
        assert [*before, *ours.encode(text, ours.special_tokens), *behind] == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@rows("Patterns")
def test_patterns(setting: str, here: str) -> None:
    if here == "refused":
        with pytest.raises(ValueError):
            check_pattern(setting)
        return
    cut = cut_by(check_pattern(setting))
    theirs = pre_tokenizers.Split(Regex(setting), "isolated")
    for text in TEXTS:
        assert cut(text) == [piece for piece, _ in theirs.pre_tokenize_str(text)]


@rows("Chat templates")
def test_chat_templates(setting: str, here: str, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "<é>"}, {"role": "assistant", "content": "x"}]
    if here == "refused":
        with pytest.raises(ValueError):
            ChatTemplate(setting).render(messages)
        return
    tokenizer = Tokenizer.from_str(json.dumps(file_of({})))
    names: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=setting, **names)
    theirs.save_pretrained(tmp_path)
    expected = theirs.apply_chat_template(messages, tokenize=False)
    ours = PretrainedBPE.from_folder(tmp_path)
    assert ours.chat(messages, add_generation_prompt=False) == expected


@rows("Rank files of tiktoken")
def test_rank_files(setting: str, here: str, tmp_path: Path) -> None:
    lines = [f"{base64.b64encode(bytes([byte])).decode()} {byte}" for byte in range(256)]
    path = tmp_path / "x.tiktoken"
    path.write_text("\n".join([*lines, setting]))
    if here == "refused":
        with pytest.raises(ValueError, match=r"x\.tiktoken"):
            RankBPE.from_file(path)
        return
    ours = RankBPE.from_file(path)
    ranks = {base64.b64decode(t): int(i) for t, i in map(str.split, [*lines, setting])}
    theirs = tiktoken.Encoding("x", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)


@rows("Models of SentencePiece")
def test_sentencepiece(setting: str, here: str) -> None:
    options: dict[str, Any] = {"vocab_size": 60, "hard_vocab_limit": False} | json.loads(setting)
    rewrites = options.pop("denormalizer_spec", False)
    written = io.BytesIO()
    corpus = [text.replace("\n", " ") for text in TEXTS if text.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=written, minloglevel=2, **options
    )
    data = written.getvalue()
    if rewrites:
        proto: Any = sentencepiece_model_pb2
        content = proto.ModelProto.FromString(data)
        table = content.normalizer_spec.precompiled_charsmap
        content.denormalizer_spec.precompiled_charsmap = table
        data = content.SerializeToString()
    if here == "refused":
        with pytest.raises(ValueError):
            SentencePieceModel(data)
        return
    ours = SentencePieceModel(data)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    allowed = [text for text in options.get("user_defined_symbols", ()) if text == "<sep>"]
    for text in TEXTS:
        ids = theirs.encode(text)
        assert ours.encode(text, allowed_special=allowed) == ids
        assert ours.decode(ids) == theirs.decode(ids)
