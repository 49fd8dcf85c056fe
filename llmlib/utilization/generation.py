"""Generation with a key/value cache, for batches of unequal prompts."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmlib.architecture.caches.base import Cache
from llmlib.architecture.context import Layout
from llmlib.architecture.exact import wide
from llmlib.architecture.transformer import Transformer
from llmlib.utilization.sampling import Sampling, choose

OnToken = Callable[[int, int], None]


@dataclass
class _Decoder:
    """Reads tokens and returns the logits of the next; the cache is optional."""

    model: Transformer
    left_padding: Tensor | None
    cache: Cache | None
    read: Tensor  # [B, T], kept only for the way without a cache

    def next_logits(self, tokens: Tensor) -> Tensor:
        if self.cache is not None:
            hidden = self.model.hidden(tokens, cache=self.cache)
        else:
            self.read = torch.cat([self.read, tokens], dim=1)
            hidden = self.model.hidden(self.read, layout=Layout(self.left_padding))
        return wide(self.model.unembed(hidden[:, -1]))  # [B, D] -> [B, V]

    def keep(self, rows: Tensor) -> None:
        if self.cache is not None:
            self.cache = self.cache.select(rows)
            return
        self.read = self.read[rows]
        if self.left_padding is not None:
            self.left_padding = self.left_padding[rows]


def _check(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    stop_tokens: Collection[int],
) -> None:
    vocab_size, limit = model.config.vocab_size, model.config.max_seq_len
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    for number, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {number} is empty: begin it with a start token")
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise ValueError(f"prompt {number} has ids outside 0..{vocab_size - 1}")
        if len(prompt) + max_new_tokens > limit:
            raise ValueError(
                f"prompt {number} has {len(prompt)} tokens and max_new_tokens is "
                f"{max_new_tokens}: together more than the model's max_seq_len of {limit}"
            )
    if any(not 0 <= token < vocab_size for token in stop_tokens):
        raise ValueError(f"stop_tokens must lie in 0..{vocab_size - 1}, got {list(stop_tokens)}")


def _uniforms(n_rows: int, n_steps: int, seeds: Sequence[int] | None) -> Tensor:
    """Draw every row's random numbers from its own seed: [rows, steps]."""
    if seeds is None:
        return torch.rand(n_rows, n_steps, dtype=torch.float64)
    generators = [torch.Generator().manual_seed(value) for value in seeds]
    rows = [torch.rand(n_steps, dtype=torch.float64, generator=g) for g in generators]
    return torch.stack(rows)


def _start(
    model: Transformer, prompts: Sequence[Sequence[int]], max_new_tokens: int, use_cache: bool
) -> tuple[_Decoder, Tensor]:
    """Pad the prompts on the left and set the cache aside."""
    device = model.output_weight.device
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.as_tensor(list(prompt))
    padding = None
    if any(len(prompt) != width for prompt in prompts):
        padding = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
    cache = None
    if use_cache:
        cache = model.new_cache(len(prompts), width + max_new_tokens, left_padding=padding)
    tokens = tokens.to(device)
    return _Decoder(model, padding, cache, tokens[:, :0]), tokens


@torch.inference_mode()
def _steps(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling,
    stop_tokens: Collection[int],
    seeds: Sequence[int] | None,
    use_cache: bool,
) -> Iterator[list[tuple[int, int]]]:
    """Yield, for each step, the row and the token of every row still running."""
    uniforms = _uniforms(len(prompts), max_new_tokens, seeds)
    stops = frozenset(stop_tokens)
    running = list(range(len(prompts)))
    was_training = model.training
    model.eval()
    try:
        decoder, tokens = _start(model, prompts, max_new_tokens, use_cache)
        for step in range(max_new_tokens):
            logits = decoder.next_logits(tokens)
            chosen = choose(logits, sampling, uniforms[running, step])
            ids = chosen.tolist()
            kept = [place for place, token in enumerate(ids) if token not in stops]
            yield [(running[place], ids[place]) for place in kept]
            if not kept:
                return
            if len(kept) < len(running):  # finished rows leave the batch and its cost
                rows = torch.tensor(kept, device=chosen.device)
                decoder.keep(rows)
                chosen = chosen[rows]
                running = [running[place] for place in kept]
            tokens = chosen[:, None]
    finally:
        model.train(was_training)


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop_tokens: Collection[int] = (),
    seed: int | Sequence[int] | None = None,
    on_token: OnToken | None = None,
    use_cache: bool = True,
) -> list[list[int]]:
    """Continue prompts, all in one batch; models without attention, those of equal length together.

    A row's continuation depends on its prompt and its seed, not on the rows beside it: prompts
    are padded on the left and the padding is masked, and each row draws from its own generator.

    Args:
        model: Its mode is left as it was.
        max_new_tokens: Most tokens to add to each prompt. The longest prompt and this must fit
            into the model's `max_seq_len`.
        sampling: How to choose; by default from the model's own distribution.
        stop_tokens: Ids that end a row. They are not part of the result.
        seed: One number, from which row i takes seed + i, or one for each row; None draws from
            torch's global generator.
        on_token: Called as `on_token(row, token)` for each new token as it comes.
        use_cache: False reads everything again for every token, to show what the cache saves.

    Returns:
        The new tokens of each prompt; fewer where a stop token came.

    Raises:
        ValueError: If a prompt is empty or too long, or another argument is out of range.
    """
    _check(model, prompts, max_new_tokens, stop_tokens)
    results: list[list[int]] = [[] for _ in prompts]
    for rows in _batches(model, prompts):
        steps = _steps(
            model,
            [prompts[row] for row in rows],
            max_new_tokens,
            sampling or Sampling(),
            stop_tokens,
            _seeds_of(seed, rows, len(prompts)),
            use_cache,
        )
        for step in steps:
            for place, token in step:
                results[rows[place]].append(token)
                if on_token is not None:
                    on_token(rows[place], token)
    return results


def _batches(model: Transformer, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Group the rows that can be read together: all, or those of equal length."""
    # Attention masks the padding that makes lengths equal; a recurrent state would remember it.
    by_length: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        length = 0 if model.config.is_attention else len(prompt)
        by_length.setdefault(length, []).append(row)
    return list(by_length.values())


def _seeds_of(
    seed: int | Sequence[int] | None, rows: Sequence[int], n_prompts: int
) -> list[int] | None:
    if seed is None:
        return None
    seeds = [seed + row for row in range(n_prompts)] if isinstance(seed, int) else list(seed)
    if len(seeds) != n_prompts:
        raise ValueError(f"seed must be one number or one for each of {n_prompts} prompts: {seeds}")
    return [seeds[row] for row in rows]


def stream(
    model: Transformer,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop_tokens: Collection[int] = (),
    seed: int | None = None,
) -> Iterator[int]:
    """Continue one prompt as `generate` does, giving each token as soon as it is chosen.

    The arguments are checked at the call, not at the first token. The model is in evaluation mode
    until the stream ends or is closed.
    """
    _check(model, [prompt], max_new_tokens, stop_tokens)
    seeds = _seeds_of(seed, [0], 1)
    steps = _steps(
        model, [prompt], max_new_tokens, sampling or Sampling(), stop_tokens, seeds, True
    )
    return (token for step in steps for _, token in step)
