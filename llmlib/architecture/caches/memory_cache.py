"""A memory of all tokens outside the window, from which each step takes the most relevant."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.caches.base import TensorCache, empty_layers
from llmlib.architecture.config import ModelConfig

Unit = Literal["token", "block"]


class MemoryCache(TensorCache):
    """Keeps every token, and lets attention see the first, the last and a few chosen ones.

    What it keeps could lie in slower memory, since few tokens are read at each step.

    What lies between sinks and window is the memory. At each call every key/value head chooses
    from it, by the products of its queries with the keys before rotation:

    - `token`: the `n_chosen` tokens with the largest product, one by one;
    - `block`: whole blocks of `block` tokens, each judged by its few representative keys, until
      `n_chosen` tokens are taken.

    The chosen tokens keep their order and stand between sinks and window, where positions are
    counted anew, so that none is larger than what attention sees. With one call for several tokens
    the choice is common to them (their products are added up).

    Args:
        config: Its mixer is `attention`, its position `rope` or `none`.
        window: Last tokens that are always seen.
        n_chosen: Tokens taken from the memory; for `block` a multiple of `block`.
        n_sinks: First tokens that are always seen.
        unit: What is chosen.
        block: Tokens of a block.
        n_representatives: Keys that stand for a block: those that the block's mean key agrees with
            most.

    Raises:
        ValueError: When a size is out of its range or the model has no such cache.

    References:
        Wu et al. (2022), Memorizing Transformers, section 3.1 (tokens, by k nearest neighbours;
        there the memory's share is set by a learned gate, here by one softmax); Xiao et al. (2024),
        InfLLM, section 2.2 (blocks and representative tokens; there far positions are clipped).
    """

    rotated = False
    selects = True

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        *,
        window: int,
        n_chosen: int,
        n_sinks: int = 4,
        unit: Unit = "token",
        block: int = 16,
        n_representatives: int = 4,
    ) -> None:
        if min(batch_size, window, block, n_representatives) < 1 or min(n_chosen, n_sinks) < 0:
            raise ValueError(
                "batch_size, window, block and n_representatives must be above zero, n_chosen and "
                "n_sinks not negative"
            )
        if unit == "block" and n_chosen % block:
            raise ValueError(f"n_chosen={n_chosen} must be a multiple of block={block}")
        if config.mixer != "attention" or config.position not in ("rope", "none"):
            raise ValueError(
                f"mixer={config.mixer!r} with position={config.position!r} cannot count positions "
                "anew: the memory needs attention with position='rope' or 'none'"
            )
        self.window, self.n_chosen, self.n_sinks = window, n_chosen, n_sinks
        self.unit, self.block, self.n_representatives = unit, block, n_representatives
        self.keys, self.values = empty_layers(config, batch_size, 0, None, torch.float32)
        self.chosen: Int[Tensor, "B G chosen"] | None = None
        """Places of the chosen tokens at the last call of the last layer."""

    @override
    def extend(
        self, layer: int, keys: Float[Tensor, "B G T K"], values: Float[Tensor, "B G T K"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S K"]]:
        """Keep the new keys and values; `recall` returns those to be seen."""
        self.keys[layer] = torch.cat((self.keys[layer].to(keys), keys), dim=2)
        self.values[layer] = torch.cat((self.values[layer].to(values), values), dim=2)
        return self.keys[layer], self.values[layer]

    @override
    def key_positions(self, n_new: int, device: torch.device) -> Int[Tensor, "1 S"]:
        """Count anew over what attention will see."""
        seen = self.length + n_new - self._n_memory(n_new) + self._n_taken(n_new)
        return torch.arange(seen, device=device).unsqueeze(0)

    @override
    def recall(
        self, layer: int, queries: Float[Tensor, "B H T K"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S K"]]:
        """Return sinks, chosen tokens, window and new tokens."""
        keys, values, n_new = self.keys[layer], self.values[layer], queries.shape[2]
        n_memory = self._n_memory(n_new)
        if n_memory == self._n_taken(n_new):
            return keys, values
        memory = slice(self.n_sinks, self.n_sinks + n_memory)
        places = self._choose(keys[:, :, memory], queries).sort(dim=-1).values  # [B, G, chosen]
        self.chosen = places + self.n_sinks

        def seen(held: Tensor) -> Tensor:
            index = places.unsqueeze(-1).expand(-1, -1, -1, held.shape[-1])
            chosen = held[:, :, memory].gather(2, index)
            return torch.cat((held[:, :, : self.n_sinks], chosen, held[:, :, memory.stop :]), dim=2)

        return seen(keys), seen(values)

    def _n_memory(self, n_new: int) -> int:
        """Tokens between sinks and window; in blocks, only whole ones."""
        memory = max(0, self.length + n_new - self.n_sinks - max(self.window, n_new))
        return memory // self.block * self.block if self.unit == "block" else memory

    def _n_taken(self, n_new: int) -> int:
        return min(self.n_chosen, self._n_memory(n_new))

    def _choose(
        self, memory: Float[Tensor, "B G M K"], queries: Float[Tensor, "B H T K"]
    ) -> Int[Tensor, "B G chosen"]:
        """Return the places of the chosen tokens within the memory."""
        groups = queries.unflatten(1, (memory.shape[1], -1)).sum((2, 3))  # [B, G, K]
        if self.unit == "token":
            products = torch.einsum("bgmk,bgk->bgm", memory, groups)
            return products.topk(self.n_chosen, dim=-1).indices
        blocks = memory.unflatten(2, (-1, self.block))  # [B, G, blocks, block, K]
        typical = torch.einsum("bgnik,bgnk->bgni", blocks, blocks.mean(3))
        n = min(self.n_representatives, self.block)
        index = typical.topk(n, dim=-1).indices.unsqueeze(-1)  # [B, G, blocks, n, 1]
        representatives = blocks.gather(3, index.expand(-1, -1, -1, -1, blocks.shape[-1]))
        scores = torch.einsum("bgnik,bgk->bgn", representatives, groups)
        first = scores.topk(self.n_chosen // self.block, dim=-1).indices * self.block
        offsets = torch.arange(self.block, device=first.device)
        return (first.unsqueeze(-1) + offsets).flatten(-2)  # [B, G, chosen]
