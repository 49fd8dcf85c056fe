"""Packing, shards on disk and the loader: nothing lost, nothing mixed up, resumed exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmlib.core.batch import Batch
from llmlib.data import TokenLoader, TokenShards, pack, write_shards
from llmlib.data.stream.packing import PackedTokens, document_ids

EOT = 0


def corpus(n_documents: int = 41, seed: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 53, n_documents)
    return [generator.integers(1, 997, length).astype(np.uint16) for length in lengths]


def split(tokens: np.ndarray) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token in tokens.tolist():
        if token == EOT:
            parts.append([])
        else:
            parts[-1].append(token)
    assert parts.pop() == []
    return parts


def test_packing_keeps_every_document_whole() -> None:
    documents = corpus()
    packed = pack([*documents[:7], np.array([], dtype=np.uint16), *documents[7:]], EOT)
    assert packed.tokens.dtype == np.uint16
    assert split(packed.tokens) == [d.tolist() for d in documents]
    ids = document_ids(packed, 0, packed.n_tokens)
    for number, document in enumerate(documents):
        assert packed.tokens[ids == number].tolist() == [*document.tolist(), EOT]
    assert document_ids(packed, 13, 29).tolist() == ids[13:29].tolist()


def test_packing_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="every document is empty"):
        pack([[], []], EOT)
    with pytest.raises(ValueError, match="must be whole numbers, not float64"):
        pack([np.array([1.5])], EOT)
    with pytest.raises(ValueError, match="end_of_text=-1 does not fit"):
        pack(corpus(), -1)
    with pytest.raises(ValueError, match="end_of_text=70000 does not fit tokens of type uint16"):
        pack(corpus(), 70_000)
    packed = pack(corpus(), EOT)
    for begin, end in ((-1, 3), (3, packed.n_tokens + 1), (5, 4)):
        with pytest.raises(ValueError, match="do not lie within"):
            packed.read(begin, end)
        with pytest.raises(ValueError, match="do not lie within"):
            document_ids(packed, begin, end)


@pytest.mark.parametrize("shard_tokens", [5, 17, 101, 10**6])
def test_shards_hold_the_packed_stream(tmp_path: Path, shard_tokens: int) -> None:
    documents = corpus()
    packed = pack(documents, EOT)
    shards = write_shards(
        tmp_path / "s",
        documents,
        vocab_size=997,
        end_of_text=EOT,
        tokenizer_sha256="t",
        corpus_sha256="c",
        shard_tokens=shard_tokens,
    )
    again = TokenShards(tmp_path / "s")
    again.verify()
    for stream in (shards, again):
        assert stream.n_tokens == packed.n_tokens
        assert stream.n_documents == len(documents)
        assert (stream.tokenizer_sha256, stream.corpus_sha256) == ("t", "c")
        assert stream.dtype == np.dtype("<u2")
        assert stream.starts.tolist() == packed.starts.tolist()
        assert stream.read(0, stream.n_tokens).tolist() == packed.tokens.tolist()
    files = list((tmp_path / "s").glob("tokens-*.bin"))
    assert len(files) == -(-packed.n_tokens // shard_tokens)
    for begin in range(0, packed.n_tokens, 37):
        for end in (begin, begin + 1, min(begin + 59, packed.n_tokens)):
            assert again.read(begin, end).tolist() == packed.tokens[begin:end].tolist()


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [[65_537, 3]], vocab_size=65_539, end_of_text=65_538)
    assert shards.dtype == np.dtype("<u4")
    assert shards.read(0, 3).tolist() == [65_537, 3, 65_538]
    edge = write_shards(tmp_path / "edge", [[65_535]], vocab_size=65_536, end_of_text=0)
    assert edge.dtype == np.dtype("<u2")
    assert edge.read(0, 1).tolist() == [65_535]


def test_ids_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="document 1 holds id 997, which is not below"):
        write_shards(tmp_path, [[3], [997]], vocab_size=997, end_of_text=EOT)
    with pytest.raises(ValueError, match="end_of_text=997 is not an id"):
        write_shards(tmp_path, [[3]], vocab_size=997, end_of_text=997)
    with pytest.raises(ValueError, match="every document is empty"):
        write_shards(tmp_path, [[]], vocab_size=997, end_of_text=EOT)
    with pytest.raises(ValueError, match="shard_tokens=0"):
        write_shards(tmp_path, [[3]], vocab_size=997, end_of_text=EOT, shard_tokens=0)


def test_a_damaged_stream_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no index.json"):
        TokenShards(tmp_path)
    write_shards(tmp_path, corpus(), vocab_size=997, end_of_text=EOT, shard_tokens=101)
    path = sorted(tmp_path.glob("tokens-*.bin"))[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"is cut short or missing: 201 bytes of 202"):
        TokenShards(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"is cut short or missing: 0 bytes of 202"):
        TokenShards(tmp_path)
    path.write_bytes(whole[:-1] + b"\x7f")
    with pytest.raises(ValueError, match="has changed since it was written"):
        TokenShards(tmp_path).verify()
    index = tmp_path / "index.json"
    content = index.read_text()
    index.write_text(content[:-30])
    with pytest.raises(ValueError, match=r"index\.json is cut short"):
        TokenShards(tmp_path)
    index.write_text(json.dumps({**json.loads(content), "version": 2}))
    with pytest.raises(ValueError, match="has version 2"):
        TokenShards(tmp_path)
    index.write_text("{}")
    with pytest.raises(ValueError, match="is not an index of token shards"):
        TokenShards(tmp_path)


def test_an_interrupted_write_leaves_the_old_stream(tmp_path: Path) -> None:
    old = write_shards(tmp_path, corpus(), vocab_size=997, end_of_text=EOT, shard_tokens=101)
    before = old.read(0, old.n_tokens).tolist()

    def failing():
        yield from corpus(seed=5)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_shards(tmp_path, failing(), vocab_size=997, end_of_text=EOT, shard_tokens=101)
    again = TokenShards(tmp_path)
    again.verify()
    assert again.read(0, again.n_tokens).tolist() == before
    new = write_shards(tmp_path, corpus(7), vocab_size=997, end_of_text=EOT)
    assert len(list(tmp_path.glob("*.bin"))) == 2  # one of tokens, one of documents
    assert split(new.read(0, new.n_tokens)) == [d.tolist() for d in corpus(7)]


def counting(n_tokens: int) -> PackedTokens:
    """A stream in which each token is its own place, so that a window says where it is from."""
    return PackedTokens(tokens=np.arange(n_tokens), starts=np.arange(0, n_tokens, 29))


def assert_equal(got: Batch, want: Batch) -> None:
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_an_epoch_shows_every_window_once() -> None:
    loader = TokenLoader(counting(1009), batch_size=3, seq_len=7, seed=11, documents=True)
    offsets = set()
    for epoch in range(5):
        assert (loader.epoch, loader.batch) == (epoch, 0)
        seen: list[int] = []
        for _ in range(loader.batches_per_epoch):
            batch = next(loader)
            inputs, targets = batch["inputs"], batch["targets"]
            assert inputs.dtype == targets.dtype == torch.int64
            assert torch.equal(targets, inputs + 1)
            assert torch.equal(inputs, inputs[:, :1] + torch.arange(7))
            seen += inputs[:, 0].tolist()
            assert torch.equal(batch["documents"], inputs // 29)
        assert len(seen) == len(set(seen)) >= (1009 - 1 - 6) // 7 // 3 * 3
        assert len({place % 7 for place in seen}) == 1
        offsets.add(seen[0] % 7)
        assert seen != sorted(seen)
    assert len(offsets) > 1  # the boundaries move


@pytest.mark.covers("data.packing")
def test_resumed_batches_are_the_same_at_every_point(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, corpus(), vocab_size=997, end_of_text=EOT, shard_tokens=103)

    def make(seed: int = 13) -> TokenLoader:
        return TokenLoader(shards, batch_size=5, seq_len=11, seed=seed)

    whole = make()
    states, batches = [], []
    for _ in range(3 * whole.batches_per_epoch + 2):
        states.append(json.loads(json.dumps(whole.state_dict())))
        batches.append(next(whole))
    assert whole.epoch >= 2
    for at in range(0, len(states), 3):
        resumed = make()
        next(resumed)
        resumed.load_state_dict(states[at])
        for expected in batches[at:]:
            assert_equal(next(resumed), expected)
    other = make(seed=17)
    assert not torch.equal(next(other)["inputs"], batches[0]["inputs"])


@given(st.sampled_from([1, 2, 3, 6]), st.integers(0, 5))
def test_ranks_share_the_batch(world_size: int, seed: int) -> None:
    source = counting(331)

    def make(rank: int, world_size: int) -> TokenLoader:
        return TokenLoader(
            source, batch_size=6, seq_len=5, seed=seed, rank=rank, world_size=world_size
        )

    single = make(0, 1)
    ranks = [make(rank, world_size) for rank in range(world_size)]
    for _ in range(17):
        shares = [next(loader) for loader in ranks]
        assert_equal(
            {name: torch.cat([s[name] for s in shares]) for name in shares[0]}, next(single)
        )
    # A run on one process goes on with several.
    ranks[0].load_state_dict(single.state_dict())
    assert torch.equal(next(ranks[0])["inputs"], next(single)["inputs"][: 6 // world_size])


def test_the_smallest_stream_gives_one_batch() -> None:
    loader = TokenLoader(counting(16), batch_size=3, seq_len=5, seed=0)
    for _ in range(4):
        assert loader.batches_per_epoch == 1
        assert sorted(next(loader)["inputs"][:, 0].tolist()) == [0, 5, 10]
    with pytest.raises(ValueError, match="needs 16 tokens; the stream holds 15"):
        TokenLoader(counting(15), batch_size=3, seq_len=5, seed=0)


def test_settings_that_cannot_be() -> None:
    source = counting(101)
    with pytest.raises(ValueError, match="batch_size=5 must be a multiple of world_size=2"):
        TokenLoader(source, batch_size=5, seq_len=3, seed=0, world_size=2)
    with pytest.raises(ValueError, match="rank=2 below it"):
        TokenLoader(source, batch_size=4, seq_len=3, seed=0, rank=2, world_size=2)
    with pytest.raises(ValueError, match="must be at least 1"):
        TokenLoader(source, batch_size=0, seq_len=3, seed=0)
    loader = TokenLoader(source, batch_size=5, seq_len=3, seed=0)
    with pytest.raises(ValueError, match="documents was True and is None"):
        loader.load_state_dict({**loader.state_dict(), "documents": True})
    for name in ("n_tokens", "batch_size", "seq_len", "seed"):
        with pytest.raises(ValueError, match=f"cannot continue: {name} was 7 and is"):
            loader.load_state_dict({**loader.state_dict(), name: 7})
    for batch in (-1, loader.batches_per_epoch):
        with pytest.raises(ValueError, match=f"epoch 0 has 6 batches, and none of number {batch}"):
            loader.load_state_dict({**loader.state_dict(), "batch": batch})
