"""H3: the three projections of attention, joined by two state spaces instead of a softmax."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmlib.architecture.caches.kv_cache import Cache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.recurrent.convolution import short_convolution
from llmlib.architecture.recurrent.s4 import DiagonalSSM
from llmlib.architecture.recurrent.shared import reset_linear, state_cache


class H3(nn.Module):
    r"""Attention's three projections joined by state spaces: a shift on the keys, then a memory.

    $y = W_o\,\bigl(q \odot \mathrm{diag}(\mathrm{shift}(k) \odot v)\bigr)$, both state spaces

    A shift state space moves its state on by one place a token, so its output is a weighted sum of
    the last few tokens: a short convolution. It lets a key stand beside the *next* token's value,
    and the diagonal state space remembers the pairs: what recall needs. One channel a head, as in
    the paper's smaller models.

    Args:
        config: The model's configuration; `state_dim` is N, `conv_kernel` the shift's length.

    References:
        Fu, Dao et al. (2023), Hungry Hungry Hippos, section 3.1 and algorithm 1.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)
        self.shift = nn.Parameter(torch.empty(config.d_model * config.conv_kernel))
        self.ssm = DiagonalSSM(config.d_model, config.state_dim)
        self.out = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.reset_parameters()

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each."""
        return {"qkv.weight": (self.config.d_model,) * 3}

    def reset_parameters(self) -> None:
        """Draw new weights."""
        self.ssm.reset_parameters()
        bound = self.config.conv_kernel**-0.5
        nn.init.uniform_(self.shift, -bound, bound)
        reset_linear(self.config, self.qkv)
        reset_linear(self.config, self.out, into_residual=True)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Context | None = None,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "B T D"]:
        """Mix information between the tokens of each row.

        Args:
            x: Residual stream (normalized, in a pre-norm model).
            context: Not needed: the states know no positions.
            cache: The states after the earlier tokens; replaced in place.
            layer: Index of this layer in the cache.

        Returns:
            What is added to the residual stream.
        """
        states = state_cache(cache)
        state = None if states is None else states.get(layer)
        queries, keys, values = self.qkv(x).mT.chunk(3, dim=1)  # [B, D, T]
        taps = self.shift.view(self.config.d_model, -1).to(keys.dtype)
        keys, history = short_convolution(keys, taps, None if state is None else state["shift"])
        z, last = self.ssm(keys * values, state, keeps_state=states is not None)
        if states is not None and last is not None:
            states.put(layer, {"ssm": last, "shift": history})
        return self.out((queries * z).mT)
