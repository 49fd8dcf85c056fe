"""Rank files give the ids of tiktoken, and damaged ones a clear refusal."""

import base64
from pathlib import Path

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlib.data import ByteBPE, king_james
from llmlib.data.tokenizers import RankBPE
from llmlib.data.tokenizers.pretokenization import GPT2_PATTERN

TRAINED = ByteBPE.train([chapter.text for chapter in king_james()[:7]], 701)
RANKS = {TRAINED.token_bytes(i): i for i in range(701)}
SPECIAL = {"<|end|>": 701, "<|turn|>": 709}
OURS = RankBPE(RANKS, SPECIAL)
THEIRS = tiktoken.Encoding(
    "small", pat_str=GPT2_PATTERN, mergeable_ranks=RANKS, special_tokens=SPECIAL
)


@settings(deadline=None)
@given(st.text(alphabet="the lorda né湖🙂\n1<|>", max_size=41))
@example("the " * 211 + "z" * 307)
@pytest.mark.covers("data.tokenize-bpe")
def test_ids_are_tiktokens(text: str) -> None:
    assert OURS.encode(text) == THEIRS.encode(text, disallowed_special=())
    assert OURS.decode(OURS.encode(text)) == text


def test_ids_are_those_of_the_merges_that_made_the_ranks() -> None:
    for chapter in king_james()[7:19]:
        assert OURS.encode(chapter.text) == TRAINED.encode(chapter.text)
    batch = OURS.encode_batch([king_james()[5].text])
    assert batch[0].tolist() == TRAINED.encode(king_james()[5].text)


def test_a_piece_that_is_a_token_needs_no_merges() -> None:
    ranks = RANKS | {b"qzqz": 997}
    theirs = tiktoken.Encoding(
        "odd", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    for text in ("qzqz", "qzqzq"):
        assert RankBPE(ranks).encode(text) == theirs.encode(text)
    assert RankBPE(ranks).encode("qzqz") == [997]


def test_special_tokens_in_text_are_text() -> None:
    text = "a<|end|><|turn|>"
    assert not {701, 709} & {*OURS.encode(text), *OURS.encode("<|end|>")}
    allowed = OURS.encode(text, allowed_special={"<|turn|>"})
    assert allowed == THEIRS.encode(text, allowed_special={"<|turn|>"}, disallowed_special=())
    assert OURS.decode(allowed) == text
    with pytest.raises(ValueError, match="not special"):
        OURS.encode(text, allowed_special={"<s>"})


def test_a_file_and_back(tmp_path: Path) -> None:
    path = tmp_path / "small.tiktoken"
    OURS.to_file(path)
    assert RankBPE.from_file(path, SPECIAL).encode("the lord") == OURS.encode("the lord")
    lines = path.read_bytes().splitlines()
    assert len(lines) == 701 and base64.b64decode(lines[3].split()[0]) == TRAINED.token_bytes(3)
    path.write_bytes(b"\n".join([*lines[:6], b"!!! 6", *lines[7:]]))
    with pytest.raises(ValueError, match="line 7: no token"):
        RankBPE.from_file(path)
    path.write_bytes(b"\n".join([*lines, lines[0]]))
    with pytest.raises(ValueError, match="line 702: the token"):
        RankBPE.from_file(path)
    path.write_bytes(b"\n".join(lines[1:]))
    with pytest.raises(ValueError, match=r"small\.tiktoken: 1 of the 256 bytes"):
        RankBPE.from_file(path)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="two tokens have one id"):
        RankBPE(RANKS, {"<s>": 3})
    with pytest.raises(ValueError, match="id 702"):
        OURS.decode([702])
