"""H3: the three projections of attention, joined by two state spaces instead of a softmax."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from llmlib.architecture.caches.state_cache import State
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.recurrent.base import RecurrentMixer
from llmlib.architecture.recurrent.convolution import short_convolution
from llmlib.architecture.recurrent.s4 import DiagonalSSM


class H3(RecurrentMixer):
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
        super().__init__(config)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)
        self.shift = nn.Parameter(torch.empty(config.d_model * config.conv_kernel))
        self.ssm = DiagonalSSM(config.d_model, config.state_dim)
        self.out = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.reset_parameters()

    @property
    @override
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        return {"qkv.weight": (self.config.d_model,) * 3}

    @override
    def reset_parameters(self) -> None:
        self.ssm.reset_parameters()
        bound = self.config.conv_kernel**-0.5
        nn.init.uniform_(self.shift, -bound, bound)
        self.reset_linear(self.qkv)
        self.reset_linear(self.out, into_residual=True)

    @override
    def mix(
        self, x: Float[Tensor, "B T D"], state: State, context: Context | None, *, keeps_state: bool
    ) -> tuple[Float[Tensor, "B T D"], State]:
        queries, keys, values = self.qkv(x).mT.chunk(3, dim=1)  # [B, D, T]
        taps = self.shift.view(self.config.d_model, -1).to(keys.dtype)
        keys, history = short_convolution(keys, taps, state.get("shift"))
        z, last = self.ssm(keys * values, state.get("ssm"), keeps_state=keeps_state)
        kept = {} if last is None else {"ssm": last, "shift": history}
        return self.out((queries * z).mT), kept
