"""Mixture of experts: many feed-forward layers, of which each token uses a few."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from llmlib.architecture.choices import Activation
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.experts.grouped_linear import Stacked, grouped_linear
from llmlib.architecture.experts.routing import (
    Routing,
    balance_loss,
    expert_capacity,
    route,
    within_capacity,
)
from llmlib.architecture.feedforward import FeedForward, activate


@dataclass(frozen=True)
class Grouping:
    """The tokens' copies, sorted so that each expert's lie next to each other."""

    sources: Int[Tensor, " A"]
    """The token of each copy, in the sorted order, A copies in all."""
    slots: Int[Tensor, "N k"]
    """Where the sorted order has each token's j-th copy; 0 for a dropped one."""
    weights: Float[Tensor, "N k"] | None
    """1 for a kept copy and 0 for a dropped one, or None where all are kept."""
    counts: Int[Tensor, " E"]
    """Copies of each expert; they sum to A."""


def group_by_expert(routing: Routing) -> Grouping:
    """Sort the copies of the tokens by expert, tokens in their order within one.

    Example:
        >>> logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
        >>> grouping = group_by_expert(route(logits, 1))
        >>> grouping.sources.tolist(), grouping.counts.tolist(), grouping.slots.tolist()
        ([1, 0, 2], [1, 2], [[1], [0], [2]])

    References:
        Gale et al. (2022), MegaBlocks, section 5.2 (dropless grouping by sorting).
    """
    n_experts, (n_tokens, k) = routing.probabilities.shape[-1], routing.experts.shape
    experts = routing.experts
    if routing.kept is not None:
        experts = experts.where(routing.kept, n_experts)  # behind the last expert
    order = experts.flatten().argsort(stable=True)  # [N k]
    slots = torch.empty_like(order)
    slots[order] = torch.arange(n_tokens * k, device=order.device)
    slots, weights = slots.view(n_tokens, k), None
    counts = torch.bincount(experts.flatten(), minlength=n_experts)[:n_experts]
    if routing.kept is not None:
        order = order[: int(routing.kept.sum())]
        slots = slots.where(routing.kept, 0)
        weights = routing.kept.to(routing.gates.dtype)
    return Grouping(order // k, slots, weights, counts)


def spread(x: Float[Tensor, "N D"], grouping: Grouping) -> Float[Tensor, "A D"]:
    """Copy each token to its places in the sorted order."""
    if torch.compiler.is_compiling() or x.is_cuda:
        return x[grouping.sources]
    return _Spread.apply(x, grouping.sources, grouping.slots, grouping.weights)  # pyright: ignore[reportReturnType]


def combine(
    y: Float[Tensor, "A D"], gates: Float[Tensor, "N k"], grouping: Grouping
) -> Float[Tensor, "N D"]:
    """Add up the kept copies of each token, weighted by their gates; zero where there are none."""
    if grouping.weights is not None:
        gates = gates * grouping.weights
    gates = gates.to(y.dtype)
    if torch.compiler.is_compiling() or y.is_cuda:
        return torch.einsum("nkd,nk->nd", y[grouping.slots], gates)
    return _Combine.apply(y, gates, grouping.sources, grouping.slots)  # pyright: ignore[reportReturnType]


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, sources: Tensor, slots: Tensor, weights: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(slots, weights)
        return x[sources]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        slots, weights = ctx.saved_tensors
        return _bag(slots, grad, weights), None, None, None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, gates: Tensor, sources: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(y, gates, sources, slots)
        return _bag(slots, y, gates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, gates, sources, slots = ctx.saved_tensors
        rows = grad[sources]  # [A, D]
        grad_gates = torch.linalg.vecdot(rows, y)[slots]  # [N, k]
        weights = torch.zeros_like(y[:, 0])  # each copy's gate, in the sorted order
        # A dropped copy has gate 0 and slot 0: adding it to that slot changes nothing.
        weights.index_add_(0, slots.flatten(), gates.flatten())
        return rows.mul_(weights.unsqueeze(-1)), grad_gates, None, None


def _bag(slots: Tensor, rows: Tensor, weights: Tensor | None) -> Tensor:
    """Add up a few rows for each token: gathers, weights and sums in one pass over memory."""
    if weights is not None:
        weights = weights.to(rows.dtype)
    return F.embedding_bag(slots, rows, mode="sum", per_sample_weights=weights)


class MixtureOfExperts(nn.Module):
    r"""E feed-forward layers and a router that sends each token to k of them.

    $y = \sum_{i \in \mathcal K(x)} g_i(x)\, \mathrm{FF}_i(x) + \mathrm{FF}_\mathrm{shared}(x)$ with
    the router's choice $\mathcal K$ and gates $g$ of `route`. The shared experts, which see every
    token, are one layer of their summed width. No layer has a bias.

    With `expert_capacity` an expert takes only so many tokens of a training batch, in the order of
    their positions; the others get nothing from it and go on in the residual stream. Outside
    training no token is dropped: what a text is answered must not depend on its neighbours.

    Attributes:
        balance_loss: The load-balancing loss of the last forward pass in training, before its
            weight; None outside training or with `balance="none"`.

    Example:
        >>> config = ModelConfig(
        ...     vocab_size=7, d_model=8, n_layers=1, n_heads=2, max_seq_len=5, n_experts=3
        ... )
        >>> layer = MixtureOfExperts(config)
        >>> layer(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])

    References:
        Shazeer et al. (2017), Outrageously Large Neural Networks; Lepikhin et al. (2020), GShard;
        Fedus et al. (2022), Switch Transformers; Jiang et al. (2024), Mixtral of Experts; Dai et
        al. (2024), DeepSeekMoE, section 3.2 (shared experts).
    """

    balance_loss: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.activation: Activation = config.activation
        n_experts, d_model, d_ff = config.n_experts, config.d_model, config.d_ff
        self.up_rows = (d_ff, d_ff) if config.is_gated else (d_ff,)
        self.router = nn.Linear(d_model, n_experts, bias=False)
        self.up = Stacked(n_experts, sum(self.up_rows), d_model)
        self.out = Stacked(n_experts, d_model, d_ff)
        self.shared = None
        if config.n_shared_experts:
            plain = config.replace(bias=False)
            self.shared = FeedForward(plain, d_ff=config.n_shared_experts * d_ff)
        self.balance_loss = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights normal with the configuration's standard deviation."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=self.config.init_std)

    @property
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        """Parameters that are several matrices on top of each other, with the rows of each."""
        n_experts = self.config.n_experts
        return {
            "up.weight": self.up_rows * n_experts,
            "out.weight": (self.config.d_model,) * n_experts,
        }

    def route(self, x: Float[Tensor, "N D"]) -> Routing:
        """Choose the experts of each token, in float32, before any is dropped."""
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x.float(), self.router.weight.float())
        return route(logits, self.config.experts_per_token, normalize=self.config.normalize_gates)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Transform each token by its experts."""
        tokens = x.flatten(0, 1)  # [B T, D]
        routing = self.route(tokens)
        self.balance_loss = balance_loss(self.config.balance, routing) if self.training else None
        if self.training and self.config.expert_capacity:
            routing = self._with_capacity(routing, *x.shape[:2])
        grouping = group_by_expert(routing)
        rows = spread(tokens, grouping)  # [A, D]
        y = self.transform(rows, grouping.counts)  # [A, D]
        result = combine(y, routing.gates, grouping).view_as(x)
        return result if self.shared is None else result + self.shared(x)

    def transform(
        self, rows: Float[Tensor, "A D"], counts: Int[Tensor, " E"]
    ) -> Float[Tensor, "A D"]:
        """Put each group of rows through its own expert."""
        hidden = grouped_linear(rows, self.up.matrices, counts)  # [A, 2 F] if gated
        return grouped_linear(activate(hidden, self.activation), self.out.matrices, counts)

    def _with_capacity(self, routing: Routing, n_rows: int, n_places: int) -> Routing:
        """Mark what is dropped; first come the first tokens of all rows, then the second ones."""
        n_experts, k = self.config.n_experts, self.config.experts_per_token
        capacity = expert_capacity(n_rows * n_places, n_experts, k, self.config.expert_capacity)
        by_time = routing.experts.view(n_rows, n_places, k).transpose(0, 1).flatten(0, 1)
        kept = within_capacity(by_time, n_experts, capacity)
        kept = kept.view(n_places, n_rows, k).transpose(0, 1).flatten(0, 1)
        return replace(routing, kept=kept)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last loss out of copies: it belongs to a graph that cannot be copied."""
        return self.__dict__ | {"balance_loss": None}
