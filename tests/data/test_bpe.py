"""The byte-level BPE is exact, lossless, and refuses what it cannot do in one clear sentence."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmlib.data import ByteBPE
from llmlib.data.tokenizers import pieces as piece_cache
from llmlib.data.tokenizers import pretokenization
from llmlib.data.tokenizers.bpe import merging as bpe_merging
from llmlib.data.tokenizers.bpe import training as bpe_training
from llmlib.data.tokenizers.bpe.symbols import BYTE_ORDER

PROSE = [
    "The theorem holds for every graph; the graph's edges are the pairs it's given.",
    "\n    Examples\n    ========\n\n    >>> print(2 + 2)\n    4\n",
    "Señor Ångström mißt 深い湖 — naïve 🙂🙂 test, test, testing.",
] * 3


def textbook_merges(texts: Iterable[str], n_tokens: int) -> list[tuple[bytes, bytes]]:
    """The trainer as textbooks give it: recount everything after each merge."""
    words = [
        [bytes([byte]) for byte in piece.encode()]
        for text in texts
        for piece in pretokenization.pretokenize(text)
    ]
    ids = {bytes([byte]): rank for rank, byte in enumerate(BYTE_ORDER)}
    merges = []
    while len(ids) < n_tokens:
        counts = Counter(pair for word in words for pair in pairwise(word))
        if not counts:
            break
        pair = min(counts, key=lambda p: (-counts[p], ids[p[0]], ids[p[1]]))
        merges.append(pair)
        assert pair[0] + pair[1] not in ids  # a token comes from one merge only
        ids[pair[0] + pair[1]] = len(ids)
        for word in words:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == pair:
                    word[at : at + 2] = [word[at] + word[at + 1]]
                at += 1
    return merges


def as_bytes(bpe: ByteBPE) -> list[tuple[bytes, bytes]]:
    return [(bpe.token_bytes(a), bpe.token_bytes(b)) for a, b in bpe.merges]


@given(
    st.lists(st.text(alphabet="abc d.é\n", max_size=23), min_size=1, max_size=7),
    st.integers(1, 13),
)
@example(["aaaaaaa aaaaa aaa aa", "aaaaaaaaaaa"], 7)
def test_merges_are_the_textbooks(texts: list[str], n_merges: int) -> None:
    pieces = bpe_training.count_pieces(texts)
    ours = bpe_training.learn_merges(pieces, 256 + n_merges)
    bpe = ByteBPE(ours)
    assert as_bytes(bpe) == textbook_merges(texts, 256 + n_merges)


def test_a_hand_worked_example() -> None:
    # low 5, lower 2, newest 6, widest 3 (Sennrich et al. 2016): es 9, est 9, lo 7, low 7, ...
    text = " ".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)
    bpe = ByteBPE.train([text], 261, ["<|end|>"])
    # " n" 6, " ne" 6 and the like come later; ties go to the smaller ids.
    assert as_bytes(bpe) == [(b"e", b"s"), (b"es", b"t"), (b"l", b"o"), (b"lo", b"w")]
    assert bpe.special_tokens == {"<|end|>": 0}
    assert [bpe.token_bytes(i) for i in bpe.encode("lowest")] == [b"low", b"est"]


@pytest.mark.slow
@pytest.mark.covers("data.tokenize-bpe")
def test_training_is_fifty_times_as_fast_as_the_textbooks() -> None:
    """In a process of its own: here every call's types are checked, which takes longer than it.

    The benchmark asserts that both learn the same merges. The ratio grows with their number.
    """
    script = Path(__file__).parents[1] / "benchmarks" / "bench_bpe.py"
    command = [sys.executable, str(script), "--loop"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) > 50


@pytest.fixture(scope="module")
def prose_bpe() -> ByteBPE:
    return ByteBPE.train(PROSE, 331, ["<|endoftext|>", "<|pad|>"])


def test_of_two_special_tokens_the_longer_is_meant() -> None:
    bpe = ByteBPE([], ["<|a|>", "<|a|><|b|>"])
    assert bpe.encode("<|a|><|b|>", {"<|a|>", "<|a|><|b|>"}) == [1]


def test_merges_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="merge 0 joins ids 256 and 3, .* not yet made"):
        ByteBPE([(256, 3), (1, 2)])
    with pytest.raises(ValueError, match="merge 0 joins ids 0 and 3, of which one is special"):
        ByteBPE([(0, 3)], ["<|end|>"])
    with pytest.raises(ValueError, match="merge 3 spells b'!!!', which is a token already"):
        ByteBPE([(0, 0), (256, 0), (1, 1), (0, 256)])


@pytest.mark.parametrize("token", ["end", " end", "<>", "1", "\n"])
def test_a_special_token_may_not_be_a_word(token: str) -> None:
    with pytest.raises(ValueError, match="could not be told from that word"):
        ByteBPE([], [token])


def test_a_special_token_may_not_be_empty() -> None:
    with pytest.raises(ValueError, match="is empty"):
        ByteBPE([], [""])


def test_vocabulary_sizes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"vocab_size=256 must lie between 257 .* 1 special"):
        ByteBPE.train(PROSE, 256, ["<|a|>"])
    with pytest.raises(ValueError, match=r"after 2 merges no pair .* Use at most vocab_size=258"):
        ByteBPE.train(["abc"], 300)
    with pytest.raises(ValueError, match="Use at most vocab_size=256"):
        ByteBPE.train([], 257)
    assert ByteBPE.train(["abc"], 258).vocab_size == 258
    assert ByteBPE.train([], 256).encode("a") == [64]
    with pytest.raises(ValueError, match="after 1 merges no pair is left that occurs 2 times"):
        ByteBPE.train(["ab ab cd"], 259, min_frequency=2)
    with pytest.raises(ValueError, match="min_frequency=0"):
        ByteBPE.train(["ab ab cd"], 259, min_frequency=0)


def test_partial_characters_decode_as_asked(prose_bpe: ByteBPE) -> None:
    ids = ByteBPE([]).encode("湖湖")  # three bytes each
    bpe = ByteBPE([])
    assert bpe.decode_bytes(ids[:-1]) == "湖湖".encode()[:-1]
    assert bpe.decode(ids[:-1]) == "湖\ufffd"
    assert bpe.decode(ids[:-1], errors="ignore") == "湖"
    with pytest.raises(UnicodeDecodeError):
        bpe.decode(ids[:-1], errors="strict")
    for wrong in (-1, prose_bpe.vocab_size):
        with pytest.raises(ValueError, match=f"token id {wrong} is not in"):
            prose_bpe.token_bytes(wrong)


def test_long_pieces_merge_as_short_ones_do(
    prose_bpe: ByteBPE, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = ["testesttheedgesgraphtheoremtest" * 5, "a" * 151, "=" * 97, "xyz", "é" * 71]
    short = [prose_bpe.encode(piece) for piece in pieces]
    monkeypatch.setattr(bpe_merging, "_SHORT", 1)
    fresh = ByteBPE(prose_bpe.merges, list(prose_bpe.special_tokens))
    assert [fresh.encode(piece) for piece in pieces] == short
    runs = ByteBPE(ByteBPE.train(["a" * 997, "a" * 31], 263).merges)
    monkeypatch.setattr(bpe_merging, "_SHORT", 10**9)
    other = ByteBPE(runs.merges)
    for length in (2, 3, 7, 64, 499, 1009):
        assert runs.encode("a" * length) == other.encode("a" * length)


def test_a_long_run_takes_time_in_proportion(prose_bpe: ByteBPE) -> None:
    start = time.process_time()
    assert prose_bpe.decode(prose_bpe.encode("a" * 200_003)) == "a" * 200_003
    assert time.process_time() - start < 5  # 0.2 s here; a quadratic merge takes an hour


def test_the_cache_of_pieces_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece_cache, "_CACHED_PIECES", 11)
    bpe = ByteBPE([])
    for number in range(101):
        bpe.encode(f"{number}")
        assert len(bpe._pieces) <= 11
    size = len(bpe._pieces)
    bpe.encode("b" * 1000)
    assert len(bpe._pieces) == size


def test_the_ascii_pattern_cuts_as_the_full_one() -> None:
    alphabet = "'stmdrevl a1.\n\t_\x1c\x0b-S"
    for length in range(4):
        for letters in product(alphabet, repeat=length):
            text = "".join(letters)
            assert pretokenization._ascii_text(text) == pretokenization._any_text(text)


@given(st.text(max_size=59))
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(pretokenization.pretokenize(text)) == text
