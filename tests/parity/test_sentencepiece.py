"""Our unigram and BPE, reading SentencePiece's model files, give the library's ids."""

import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from llmlib.data import fixed_corpus, king_james
from llmlib.data.tokenizers import SentencePieceModel, Tokenizer
from llmlib.data.tokenizers.files.sentencepiece_format import parse_model

CHINESE = [
    "深い湖の水は冷たい",
    "今天天气很好,我们去公园散步。",
    "学习大语言模型需要数学",
    "1984年",
]
EDGES = ["", " ", "   ", " a", "a  ", "▁", "\x01", " \x01", "a\x00b", "\u3000x", "e\u0301", "\t\n"]
MIXED = "abc defg  ▁  \t\n"
MIXED += "\u3000深湖学习机ﬁﬀ½①ＡＢ🙂👍🏽é e\u0301 한국\u1100\u1161\x01\x00\u200b٣\ufeff<s>[a]\xa0."
SETTINGS = {
    "library's own": {},
    "bytes": {"byte_fallback": True},
    "nothing normalized": {
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "space at the end": {"treat_whitespace_as_suffix": True},
    "across words": {"split_by_whitespace": False, "add_dummy_prefix": False},
}


@pytest.fixture(scope="module")
def train_lines() -> list[str]:
    chosen = random.Random(5).sample(fixed_corpus(), 97)
    lines = [line for document in chosen for line in document.text.split("\n") if line.strip()]
    return lines[:1201] + king_james()[3].text.split("\n") + CHINESE * 23


@pytest.fixture(scope="module")
def test_lines() -> list[str]:
    """1,000 lines: prose, code and mathematics, then every kind of character at random."""
    rng = random.Random(7)
    documents = rng.sample(fixed_corpus(), 211)
    prose = [line for document in documents for line in document.text.split("\n")]
    chance = ["".join(rng.choices(MIXED, k=rng.randrange(37))) for _ in range(487)]
    # Runs can be cut in many orders of the same pieces, all equally likely up to rounding.
    runs = [character * n for character in "=*-o.)" for n in range(2, 13)]
    lines = [*CHINESE, *EDGES, *runs, *chance, *rng.sample(prose, 431)]
    assert len(lines) == 1000
    return lines


@pytest.mark.slow
@pytest.mark.covers("data.tokenize-sentencepiece")
@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_ids_and_texts_are_the_librarys(
    model_type: str, settings: dict, train_lines: list[str], test_lines: list[str]
) -> None:
    ours = SentencePieceModel.train(train_lines, 701, model_type=model_type, **settings)
    library = sentencepiece.SentencePieceProcessor(model_proto=ours.model)
    assert ours.vocab_size == library.get_piece_size() == 701
    for line in test_lines:
        ids = library.encode(line)
        assert ours.encode(line) == ids, line
        assert ours.decode(ids) == library.decode(ids), line
    rng = random.Random(11)
    for _ in range(101):
        ids = [rng.randrange(701) for _ in range(rng.randrange(13))]
        assert ours.decode(ids) == library.decode(ids)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.covers("data.tokenize-sentencepiece")
def test_symbols_of_the_user(model_type: str, train_lines: list[str]) -> None:
    """Allowed, they are the library's pieces; otherwise the text that they are spelt with."""
    ours = SentencePieceModel.train(
        train_lines[:307],
        607,
        ["<turn>"],
        model_type=model_type,
        byte_fallback=True,
        user_defined_symbols=["<sep>", "▁▁", "\n"],
        normalization_rule_name="nfkc",
    )
    library = sentencepiece.SentencePieceProcessor(model_proto=ours.model)
    sep, turn = ours.special_tokens["<sep>"], ours.special_tokens["<turn>"]
    texts = ["a<sep>b", "<sep>", "x  <sep>   y\n z", "ﬁ<sep>ﬁ", "<turn> a", "a ▁▁ b", "a▁▁▁b", "\n"]
    for text in texts:
        ids = library.encode(text)
        assert ours.encode(text, allowed_special={"<sep>"}) == ids
        if "<sep>" not in text:
            assert ours.encode(text) == ids
        assert not {sep, turn} & {*ours.encode(text), *ours.encode_batch([text])[0].tolist()}
    assert ours.encode("a<turn>b", allowed_special={"<turn>"}).count(turn) == 1
    assert set(ours.special_tokens) == {"<s>", "</s>", "<turn>", "<sep>"}


def test_pieces_that_are_not_to_be_used(train_lines: list[str]) -> None:
    """A vocabulary restricted after training: BPE undoes such merges, unigram goes round them."""
    proto: Any = sentencepiece_model_pb2
    for model_type in ("unigram", "bpe"):
        model = SentencePieceModel.train(train_lines[:307], 401, model_type=model_type)
        content = proto.ModelProto.FromString(model.model)
        for piece in content.pieces[3:331:3]:
            piece.type = proto.ModelProto.SentencePiece.UNUSED
        data = content.SerializeToString()
        library = sentencepiece.SentencePieceProcessor(model_proto=data)
        ours = SentencePieceModel(data)
        for line in train_lines[:211]:
            assert ours.encode(line) == library.encode(line)


def test_a_file_of_the_library_and_back(train_lines: list[str], tmp_path: Path) -> None:
    ours = SentencePieceModel.train(train_lines[:211], 307, model_type="bpe")
    ours.save(tmp_path / "ours.model")
    library = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "ours.model"))
    assert library.encode(CHINESE[0]) == ours.encode(CHINESE[0])
    again = SentencePieceModel.load(tmp_path / "ours.model")
    assert again.sha256 == ours.sha256 and isinstance(again, Tokenizer)
    assert again.file == ours.file


def test_the_trie_unfolds_into_the_librarys_replacements() -> None:
    model = SentencePieceModel.train(["ab ab"], 7, model_type="bpe")
    library = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc")
    table = model.file.replacements
    assert table["ﬁ"] == "fi" and table["e\u0301"] == "é" and table["\t"] == " "
    for text in random.Random(1).sample(sorted(table), 499):
        if " " not in table[text]:
            assert library.normalize(text).removeprefix("▁") == table[text]


def test_bad_files(tmp_path: Path) -> None:
    model = SentencePieceModel.train(["ab ab"], 7, model_type="bpe").model
    path = tmp_path / "cut.model"
    path.write_bytes(model[:-10_007])
    with pytest.raises(ValueError, match=r"cut\.model: this is no SentencePiece model"):
        SentencePieceModel.load(path)
    for data in (b"", b"PK\x03\x04 not a model", b"\xff" * 17):
        with pytest.raises(ValueError, match="no SentencePiece model"):
            parse_model(data)
    with pytest.raises(ValueError, match="the SentencePiece trainer refuses"):
        SentencePieceModel.train(["ab"], 10_007)
    with pytest.raises(ValueError, match="text 1 of the corpus"):
        SentencePieceModel.train(["ab", "\udc00"], 7)
    with pytest.raises(ValueError, match="model_type"):
        SentencePieceModel.train(["ab"], 7, model_type="word")
    with pytest.raises(ValueError, match="lone surrogate"):
        SentencePieceModel(model).encode("\ud800")
    with pytest.raises(ValueError, match="is of type 3"):
        proto: Any = sentencepiece_model_pb2
        word = proto.ModelProto.FromString(model)
        word.trainer_spec.model_type = 3
        parse_model(word.SerializeToString())
