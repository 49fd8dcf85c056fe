"""PagedAttention: the same text as with a contiguous cache, and a pool that never loses a block."""

import gc
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.architecture import KVCache, ModelConfig, Transformer
from llmlib.architecture.caches.block_pool import BlockAllocator, BlockPool, OutOfBlocksError
from llmlib.architecture.caches.paged_cache import PagedCache, contiguous_slots, paged_slots
from llmlib.utilization import GREEDY, generate


def config(**changes) -> ModelConfig:
    shape = {"vocab_size": 31, "d_model": 28, "n_layers": 2, "n_heads": 7, "max_seq_len": 61}
    return ModelConfig(**{**shape, "n_kv_heads": 1, "init_std": 0.3, **changes})


VARIANTS = {
    "multi-query": config(),
    "window": config(attention="window", window=5, n_sinks=2),
    "latent": config(mixer="latent", latent_dim=11, rope_head_dim=6),
    "alibi": config(position="alibi"),
    "dynamic": config(rope_scaling="dynamic", rope_factor=2.0, rope_original_len=13),
}


@pytest.fixture(params=VARIANTS.values(), ids=list(VARIANTS))
def model(request) -> Transformer:
    torch.manual_seed(4)
    return Transformer(request.param).eval()


@pytest.mark.covers("arch.attn-paged")
@pytest.mark.parametrize("block_size", [1, 3, 16])
def test_logits_equal_the_contiguous_caches(model, block_size):
    tokens = torch.randint(31, (3, 29))
    paged = PagedCache.allocate(model.config, 3, 29, block_size=block_size)
    whole = model.new_cache(3, 29)
    for part in tokens.split((11, 1, 7, 1, 9), dim=1):
        torch.testing.assert_close(model(part, cache=paged), model(part, cache=whole))
    assert paged.length == 29 and paged.nbytes == 3 * -(-29 // block_size) * paged.pool.block_bytes


@pytest.mark.slow
@pytest.mark.covers("arch.attn-paged")
@pytest.mark.parametrize("block_size", [1, 4, 7])
def test_greedy_text_of_unequal_rows_is_the_same(model, block_size, monkeypatch):
    prompts = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], [8], [9, 7, 9, 3]]
    # Each row stops at its own time, so that rows leave the cache while others go on.
    options = {"max_new_tokens": 23, "sampling": GREEDY, "stop_tokens": (2, 3, 5, 7)}
    expected = generate(model, prompts, **options, use_cache=False)
    caches = []

    def paged(batch_size, max_len, *, left_padding=None, dtype=None):
        cache = PagedCache.allocate(
            model.config, batch_size, max_len, left_padding=left_padding, block_size=block_size
        )
        caches.append(cache)
        return cache

    monkeypatch.setattr(model, "new_cache", paged)
    assert generate(model, prompts, **options) == expected
    pool = caches.pop().pool
    gc.collect()
    assert pool.allocator.n_free == pool.allocator.n_blocks  # all came back by themselves


def test_padding_blocks_take_no_memory():
    padding = torch.tensor([9, 0])
    cache = PagedCache.allocate(config(), 2, 17, left_padding=padding, block_size=4)
    model = Transformer(config()).eval()
    model(torch.randint(31, (2, 13)), cache=cache)
    assert cache.tables[0][:2] == [cache.pool.padding_block] * 2
    assert cache.n_slots == (2 + 4) * 4 and cache.n_tokens == 4 + 13
    assert all(memory[cache.pool.padding_block].abs().max() == 0 for memory in cache.pool.keys)


def test_samples_of_one_prompt_share_it_until_they_write():
    model = Transformer(config()).eval()
    prompt = PagedCache.allocate(model.config, 1, 61, block_size=4, n_blocks=15)
    model(torch.randint(31, (1, 10)), cache=prompt)
    allocator = prompt.pool.allocator
    assert allocator.n_free == 12  # 10 tokens lie in 3 blocks
    samples = prompt.select(torch.zeros(5, dtype=torch.long))
    assert allocator.n_free == 12 and samples.n_slots == 12
    new = torch.arange(5)[:, None]
    alone = [model(new[i : i + 1], cache=prompt.fork()) for i in range(5)]
    together = model(new, cache=samples)
    torch.testing.assert_close(together, torch.cat(alone))
    # The two full blocks stay shared; the third, half full, was copied for each sample.
    assert allocator.n_free == 12 - 5
    assert {table[0] for table in samples.tables} == {prompt.tables[0][0]}
    assert len({table[2] for table in samples.tables} | {prompt.tables[0][2]}) == 6
    samples.free()
    assert allocator.n_free == 12
    # A sole holder writes in place, and the last of several keeps the shared block.
    alone_again = prompt.fork()
    prompt.free()
    block = alone_again.tables[0][2]
    model(new[:1], cache=alone_again)
    assert alone_again.tables[0][2] == block and allocator.n_free == 12


def test_out_of_blocks_changes_nothing():
    model = Transformer(config()).eval()
    pool = BlockPool(model.config, n_blocks=5, block_size=4)
    first, second = PagedCache(pool, 2, 61), PagedCache(pool, 1, 61)
    model(torch.randint(31, (2, 7)), cache=first)
    tables = [list(table) for table in first.tables]
    with pytest.raises(OutOfBlocksError, match="3 more blocks of 4 tokens are needed and 1 of 5"):
        model(torch.randint(31, (1, 9)), cache=second)
    with pytest.raises(OutOfBlocksError, match="allocate more blocks"):
        model(torch.randint(31, (2, 2)), cache=first)
    assert first.tables == tables and second.tables == [[]] and pool.allocator.n_free == 1
    first.truncate(3)
    assert pool.allocator.n_free == 3
    model(torch.randint(31, (1, 9)), cache=second)


@pytest.mark.covers("arch.attn-paged")
def test_waste_is_below_a_block_a_sequence():
    model = Transformer(config()).eval()
    lengths, block_size = [5, 23, 2, 41, 17], 4
    pool = BlockPool(model.config, n_blocks=97, block_size=block_size)
    caches = [PagedCache(pool, 1, 61) for _ in lengths]
    for cache, length in zip(caches, lengths, strict=True):
        model(torch.randint(31, (1, length)), cache=cache)
    slots = sum(cache.n_slots for cache in caches)
    assert slots == paged_slots(lengths, block_size)
    assert slots == (pool.allocator.n_blocks - pool.allocator.n_free) * block_size
    assert sum(cache.n_tokens for cache in caches) == sum(lengths)
    assert 0 <= slots - sum(lengths) < block_size * len(lengths)
    reserved = [KVCache.allocate(model.config, 1, 61) for _ in lengths]
    assert contiguous_slots(lengths, 61) * pool.block_bytes / block_size == sum(
        cache.nbytes for cache in reserved
    )
    assert sum(cache.nbytes for cache in caches) == slots * pool.block_bytes // block_size


def test_the_last_of_several_holders_writes_in_place():
    pool = BlockPool(config(), n_blocks=2, block_size=4)
    prompt = PagedCache(pool, 1, 61)
    model = Transformer(config()).eval()
    model(torch.randint(31, (1, 3)), cache=prompt)
    both = prompt.select(torch.tensor([0, 0]))
    prompt.free()
    model(torch.tensor([[1], [2]]), cache=both)  # one copy is enough, and there is room for one
    assert sorted(table[0] for table in both.tables) == [0, 1]


def test_a_pass_that_failed_and_is_repeated_does_not_write_into_a_fork():
    pool = BlockPool(config(), n_blocks=5, block_size=4)
    cache = PagedCache(pool, 1, 61)
    model = Transformer(config()).eval()
    model(torch.randint(31, (1, 3)), cache=cache)
    new = torch.ones(1, 1, 2, 4)
    cache.extend(0, new, new)  # then an error in a later layer
    fork = cache.fork()
    for layer in range(2):
        cache.extend(layer, new, new)
        fork.extend(layer, 2 * new, 2 * new)
    assert cache.tables[0][0] != fork.tables[0][0]
    assert pool.keys[0][cache.tables[0][0], 3, 0, 0] == 1


@dataclass
class Mirror:
    """A cache and what its rows must hold: one number a token."""

    cache: PagedCache
    rows: list[list[float]] = field(default_factory=list)


def write(mirror: Mirror, n_tokens: int, number: float) -> float:
    """Extend every row by tokens that no other row has; return the next unused number."""
    n_rows = len(mirror.rows)
    new = number + torch.arange(n_rows * n_tokens, dtype=torch.float32).view(n_rows, n_tokens)
    heads = new[:, None, :, None].expand(-1, 1, -1, 4)
    for layer in range(2):
        keys, values = mirror.cache.extend(layer, heads + layer, -heads)
        assert torch.equal(keys - layer, -values)
    mirror.cache.advance(n_tokens)
    for row, part in zip(mirror.rows, new.tolist(), strict=True):
        row.extend(part)
    return number + n_rows * n_tokens


def held(mirror: Mirror, layer: int) -> list[list[float]]:
    """Read every row's tokens out of its blocks."""
    pool, cache = mirror.cache.pool, mirror.cache
    rows = [pool.keys[layer][table].flatten(0, 1)[: cache.length, 0, 0] for table in cache.tables]
    return [(row - layer).tolist() for row in rows]


def require_sound(pool: BlockPool, mirrors: list[Mirror]) -> None:
    allocator = pool.allocator
    uses = [0] * allocator.n_blocks
    for mirror in mirrors:
        for table in mirror.cache.tables:
            for block in table:
                uses[block] += 1
        assert held(mirror, 0) == held(mirror, 1) == mirror.rows
    assert uses == [allocator.uses(block) for block in range(allocator.n_blocks)]
    assert allocator.n_free == uses.count(0)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(("extend", "extend", "select", "truncate", "free", "drop", "abandon")),
        st.integers(0, 100),
        st.integers(0, 100),
    ),
    max_size=40,
)


@pytest.mark.covers("arch.attn-paged")
@settings(deadline=None, max_examples=60)
@given(operations=OPERATIONS, n_blocks=st.integers(3, 30), block_size=st.integers(1, 5))
def test_no_sequence_of_operations_leaks_or_aliases_a_block(operations, n_blocks, block_size):
    shape = config(d_model=4, n_heads=1)
    pool = BlockPool(shape, n_blocks, block_size)
    mirrors = [Mirror(PagedCache(pool, 2, 1000), [[], []])]
    number = 1.0
    for name, which, amount in operations:
        if not mirrors:
            mirrors.append(Mirror(PagedCache(pool, 1, 1000), [[]]))
        mirror = mirrors[which % len(mirrors)]
        match name:
            case "extend":
                with suppress(OutOfBlocksError):
                    number = write(mirror, 1 + amount % 7, number)
            case "select":
                rows = [(amount + i * i) % len(mirror.rows) for i in range(1 + amount % 3)]
                texts = [list(mirror.rows[row]) for row in rows]
                mirrors.append(Mirror(mirror.cache.select(torch.tensor(rows)), texts))
            case "truncate":
                length = amount % (mirror.cache.length + 1)
                mirror.cache.truncate(length)
                mirror.rows = [row[:length] for row in mirror.rows]
            case "abandon":  # a forward pass that fails after its first layer
                with suppress(OutOfBlocksError):
                    new = torch.zeros(len(mirror.rows), 1, 1 + amount % 7, 4)
                    mirror.cache.extend(0, new, new)
            case _:
                mirrors.remove(mirror)
                if name == "free":
                    mirror.cache.free()
        del mirror
        require_sound(pool, mirrors)
    mirrors.clear()
    assert pool.allocator.n_free == n_blocks


def test_misuse_is_refused():
    pool = BlockPool(config(), 3, 4)
    cache = PagedCache(pool, 1, 9)
    model = Transformer(config()).eval()
    with pytest.raises(ValueError, match="larger max_len"):
        model(torch.randint(31, (1, 10)), cache=cache)
    with pytest.raises(ValueError, match="cannot truncate"):
        cache.truncate(1)
    cache.free()
    with pytest.raises(ValueError, match="was freed"):
        model(torch.randint(31, (1, 2)), cache=cache)
    with pytest.raises(ValueError, match="above zero"):
        PagedCache(pool, 0, 9)
    with pytest.raises(ValueError, match="3 rows, not 2"):
        PagedCache(pool, 2, 9, left_padding=torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="above zero"):
        BlockPool(config(), 3, 0)
    with pytest.raises(ValueError, match="above zero"):
        BlockAllocator(0)
    with pytest.raises(AssertionError, match="twice"):
        BlockAllocator(1).release(0)
