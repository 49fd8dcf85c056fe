"""Mamba: a state space that chooses, token by token, what to keep and what to read."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from llmlib.architecture.caches.state_cache import State
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.exact import empty_wide, wide
from llmlib.architecture.recurrent.base import RecurrentMixer
from llmlib.architecture.recurrent.convolution import short_convolution
from llmlib.architecture.recurrent.selective import selective_scan

SHORTEST_STEP, LONGEST_STEP = 0.001, 0.1


class Mamba(RecurrentMixer):
    r"""A gated selective state space, which takes the place of attention and feed-forward layer.

    With E inner channels and R the rank of the steps' projection:

    $$u, z = W_\mathrm{in} x, \quad u \leftarrow \mathrm{swish}(\mathrm{conv}(u)), \quad
    r, b, c = W_x u, \quad \Delta = \mathrm{softplus}(W_\Delta r + \beta)$$
    $$y = W_\mathrm{out}\,\bigl((\mathrm{scan}(u, \Delta, A, b, c) + d \odot u) \odot
    \mathrm{swish}(z)\bigr)$$

    A large step $\Delta$ forgets the past and takes the token in; a small one passes it over. That
    choice is what a fixed state space (`S4`) lacks.

    Names here, and in the paper:

    - `expand * d_model`: $ED$, the inner width (3.4)
    - `state_dim`: $N$
    - `rank`: $R = \lceil D / 16 \rceil$ (3.6)
    - `log_rates`: $\ln(-A)$

    Args:
        config: The model's configuration: `expand`, `state_dim` and `conv_kernel` are Mamba's.

    References:
        Gu and Dao (2023), Mamba: Linear-Time Sequence Modeling with Selective State Spaces,
        algorithm 2, figure 3 and section 3.6 (initialization).
    """

    # Read number by number in the recurrence, so no matrices to an optimizer.
    elementwise = ("taps", "log_rates")
    exact = ("log_rates",)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.width = config.expand * config.d_model
        self.rank = -(-config.d_model // 16)
        self.up = nn.Linear(config.d_model, 2 * self.width, bias=config.bias)
        self.taps = nn.Parameter(torch.empty(self.width, config.conv_kernel))
        self.conv_bias = nn.Parameter(torch.empty(self.width))
        self.select_rows = (self.rank, config.state_dim, config.state_dim)
        self.select = nn.Linear(self.width, sum(self.select_rows), bias=False)
        self.step = nn.Linear(self.rank, self.width)
        self.log_rates = nn.Parameter(empty_wide(self.width, config.state_dim))
        self.skip = nn.Parameter(torch.empty(self.width))
        self.out = nn.Linear(self.width, config.d_model, bias=config.bias)
        self.reset_parameters()

    @property
    @override
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        return {"up.weight": (self.width,) * 2, "select.weight": self.select_rows}

    @override
    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Draw new weights: $A = -(1 \dots N)$, steps log-uniform from 0.001 to 0.1 at first.

        The matrices are uniform within one over the root of their inputs, the one into the residual
        stream smaller by the root of the number of layers.
        """
        for linear in (self.up, self.select, self.step, self.out):
            bound = linear.in_features**-0.5
            nn.init.uniform_(linear.weight, -bound, bound)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        self.out.weight.div_(math.sqrt(self.config.n_layers))
        bound = self.config.conv_kernel**-0.5
        nn.init.uniform_(self.taps, -bound, bound)
        nn.init.uniform_(self.conv_bias, -bound, bound)
        states = torch.arange(1, self.config.state_dim + 1, device=self.log_rates.device)
        self.log_rates.copy_(states.float().log().expand_as(self.log_rates))
        nn.init.ones_(self.skip)
        steps = torch.empty_like(self.step.bias)
        steps = steps.uniform_(math.log(SHORTEST_STEP), math.log(LONGEST_STEP)).exp()
        self.step.bias.copy_(steps + (-torch.expm1(-steps)).log())  # softplus backwards

    @override
    def mix(
        self, x: Float[Tensor, "B T D"], state: State, context: Context | None, *, keeps_state: bool
    ) -> tuple[Float[Tensor, "B T D"], State]:
        inner, gate = self.up(x).chunk(2, dim=-1)  # [B, T, E] each
        convolved, history = short_convolution(
            inner.mT, self.taps.to(inner.dtype), state.get("conv")
        )
        inner = F.silu(convolved + self.conv_bias.unsqueeze(-1).to(inner.dtype)).mT
        steps, writes, reads = self.select(inner).split(self.select_rows, dim=-1)
        steps = F.softplus(wide(self.step(steps)))  # [B, T, E]
        y, last = selective_scan(
            inner, steps, -wide(self.log_rates).exp(), writes, reads, state.get("ssm")
        )
        y = (y.to(inner.dtype) + self.skip.to(inner.dtype) * inner) * F.silu(gate)
        return self.out(y), {"conv": history, "ssm": last}
