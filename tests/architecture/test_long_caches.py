"""Caches for long texts: rolling with sinks, parallel windows, selection from a memory."""

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.caches.memory_cache import MemoryCache
from llmlib.architecture.caches.parallel_windows import parallel_windows
from llmlib.architecture.caches.rolling_cache import RollingCache

CONFIG = ModelConfig(
    vocab_size=101, d_model=52, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=67, max_seq_len=61,
    init_std=0.2,
)  # fmt: skip


@pytest.fixture
def model() -> Transformer:
    torch.manual_seed(1)
    return Transformer(CONFIG).eval()


def ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(101, (rows, length))


@torch.no_grad()
def step_by_step(model: Transformer, tokens: torch.Tensor, cache) -> torch.Tensor:
    return torch.cat([model(token, cache=cache) for token in tokens.split(1, dim=1)], dim=1)


def test_a_rolling_cache_with_room_is_a_cache(model):
    tokens = ids(3, 29)
    cache = RollingCache(CONFIG, 3, window=26, n_sinks=3)
    logits = step_by_step(model, tokens, cache)
    torch.testing.assert_close(logits, model(tokens), atol=1e-4, rtol=1e-4)
    assert (cache.length, cache.n_read) == (29, 29)


@pytest.mark.covers("arch.long-window")
def test_a_rolling_cache_reads_sinks_and_window_at_new_positions(model):
    # In one layer what is kept is a function of the tokens kept, whatever was dropped.
    single = Transformer(CONFIG.replace(n_layers=1)).eval()
    tokens = ids(2, 41)
    cache = RollingCache(single.config, 2, window=7, n_sinks=2)
    size = cache.nbytes
    logits = step_by_step(single, tokens, cache)
    assert cache.nbytes == size
    assert (cache.length, cache.n_read) == (9, 41)
    # Before its own token is kept, a query sees 9 held ones: 2 sinks and the 7 before it.
    kept = torch.cat((tokens[:, :2], tokens[:, 33:41]), dim=1)
    torch.testing.assert_close(logits[:, -1], single(kept)[:, -1], atol=1e-4, rtol=1e-4)
    chosen = cache.select(torch.tensor([1]))
    more = ids(1, 1)
    torch.testing.assert_close(
        single(more, cache=chosen)[:, -1],
        single(torch.cat((tokens[1:, :2], tokens[1:, 34:], more), 1))[:, -1],
        atol=1e-4,
        rtol=1e-4,
    )
    assert cache.n_read == 41


def test_a_rolling_cache_reads_in_pieces(model):
    tokens = ids(1, 17)
    cache = RollingCache(CONFIG, 1, window=20, n_sinks=1)
    with torch.no_grad():
        parts = [model(part, cache=cache) for part in tokens.split((5, 1, 11), dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(tokens), atol=1e-4, rtol=1e-4)


def test_one_parallel_window_is_the_text(model):
    tokens = ids(1, 23)
    cache = parallel_windows(model, [tokens[0, :17].tolist()], 6)
    parts = [model(tokens[:, 17:19], cache=cache), model(tokens[:, 19:], cache=cache)]
    torch.testing.assert_close(torch.cat(parts, 1), model(tokens)[:, 17:], atol=1e-4, rtol=1e-4)


def test_rows_of_parallel_windows_go_on_by_themselves(model):
    cache = parallel_windows(model, [[3, 1, 4], [1, 5]], 4)
    both = cache.select(torch.tensor([0, 0]))
    more = ids(2, 4)
    logits = model(more, cache=both)
    for row in range(2):
        alone = parallel_windows(model, [[3, 1, 4], [1, 5]], 4)
        apart = model(more[row : row + 1], cache=alone)[0]
        torch.testing.assert_close(apart, logits[row], atol=1e-4, rtol=1e-4)


@pytest.mark.covers("arch.long-window")
def test_parallel_windows_share_positions_and_lose_their_order(model):
    first, second, question = ids(1, 11), ids(1, 7), ids(1, 5)

    def answer(*windows: torch.Tensor) -> torch.Tensor:
        cache = parallel_windows(model, [window[0].tolist() for window in windows], 5)
        assert cache.key_positions(5, question.device)[0, -1] == 11 + 5 - 1
        return model(question, cache=cache)

    torch.testing.assert_close(answer(first, second), answer(second, first), atol=1e-4, rtol=1e-4)
    for order in ((first, second), (second, first)):
        joined = model(torch.cat((*order, question), dim=1))[:, -5:]
        assert (answer(first, second) - joined).abs().amax() > 1e-2
    # Two windows with one head by hand: keys of both, each rotated from its own beginning.
    assert (answer(first, second) - answer(first)).abs().amax() > 1e-3


@pytest.mark.covers("arch.long-window")
@pytest.mark.parametrize("unit", ["token", "block"])
def test_a_memory_that_is_taken_whole_is_a_cache(model, unit):
    tokens = ids(2, 37)
    cache = MemoryCache(CONFIG, 2, window=5, n_chosen=36, n_sinks=2, unit=unit, block=4)
    with torch.no_grad():
        parts = [model(part, cache=cache) for part in tokens.split((13, *(1,) * 24), dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), model(tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("unit", ["token", "block"])
def test_the_chosen_tokens_are_the_best_ones(unit):
    torch.manual_seed(4)
    cache = MemoryCache(
        CONFIG, 1, window=5, n_chosen=8, n_sinks=3, unit=unit, block=4, n_representatives=4
    )
    keys, values = torch.randn(2, 1, 1, 33, 26).unbind(0)
    queries = torch.randn(1, 2, 1, 26)
    cache.length = 32
    cache.extend(0, keys, values)
    seen, _ = cache.recall(0, queries)
    assert cache.chosen is not None
    products = (keys[0, 0] @ queries[0].sum(0).T).squeeze()
    memory = products[3:28] if unit == "token" else products[3:27]
    if unit == "token":
        best = memory.topk(8).indices
    else:
        best = (memory.view(6, 4).sum(1).topk(2).indices[:, None] * 4 + torch.arange(4)).flatten()
    assert cache.chosen[0, 0].tolist() == sorted((best + 3).tolist())
    rest = list(range(28 if unit == "token" else 27, 33))
    expected = keys[0, 0, [0, 1, 2, *cache.chosen[0, 0].tolist(), *rest]]
    assert torch.equal(seen[0, 0], expected)
    assert cache.key_positions(1, keys.device).shape[1] == seen.shape[2]


def test_what_cannot_be_kept_is_refused(model):
    with pytest.raises(ValueError, match="window=0"):
        RollingCache(CONFIG, 1, window=0)
    with pytest.raises(ValueError, match="keeps a state"):
        RollingCache(CONFIG.replace(mixer="s4"), 1, window=3)
    with pytest.raises(ValueError, match="at least one token"):
        parallel_windows(model, [[1, 2], []], 3)
    with pytest.raises(ValueError, match="multiple of block"):
        MemoryCache(CONFIG, 1, window=3, n_chosen=5, unit="block", block=4)
    with pytest.raises(ValueError, match="positions anew"):
        MemoryCache(CONFIG.replace(position="learned"), 1, window=3, n_chosen=5)
    with pytest.raises(ValueError, match="positions of their own"):
        parallel_windows(Transformer(CONFIG.replace(position="alibi")), [[1]], 3)
