"""Which experts each token goes to, which tokens an expert has no room for, and fair loads."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.choices import Balance


@dataclass(frozen=True)
class Routing:
    """Where each of N tokens goes."""

    logits: Float[Tensor, "N E"]
    probabilities: Float[Tensor, "N E"]
    experts: Int[Tensor, "N k"]
    """The most probable first."""
    gates: Float[Tensor, "N k"]
    """The weight of each chosen expert's output."""
    kept: Bool[Tensor, "N k"] | None = None
    """False where the expert had no room: that output counts as zero. None keeps all."""

    @property
    def load(self) -> Float[Tensor, " E"]:
        """The share of all choices that falls on each expert; sums to one."""
        return choice_shares(self.experts, self.probabilities.shape[-1])

    @property
    def dropped(self) -> float:
        """The share of the choices for which there was no room."""
        return 0.0 if self.kept is None else 1 - self.kept.float().mean().item()


def route(
    logits: Float[Tensor, "N E"], experts_per_token: int, *, normalize: bool = True
) -> Routing:
    r"""Choose the k most probable experts of each token.

    With $p = \mathrm{softmax}(s)$ and the set $\mathcal K$ of the k largest, the gates are
    $g_i = p_i / \sum_{j \in \mathcal K} p_j$, which is the softmax over the chosen scores alone;
    without `normalize` they are $g_i = p_i$. All in float32.

    Args:
        experts_per_token: k, from 1 to E.
        normalize: Let the gates of a token sum to one. Ignored for k = 1, where the gate would be
            the constant 1 and the model's loss would teach the router nothing.

    Raises:
        ValueError: When k is not between 1 and the number of experts.

    Example:
        >>> routing = route(torch.tensor([[0.0, math.log(3), math.log(6)]]), 2)
        >>> routing.experts.tolist(), [round(g, 4) for g in routing.gates[0].tolist()]
        ([[2, 1]], [0.6667, 0.3333])

    References:
        Shazeer et al. (2017), Outrageously Large Neural Networks, equations 3 to 5 (without their
        noise); Fedus et al. (2022), Switch Transformers, equation 2 (k = 1); Jiang et al. (2024),
        Mixtral of Experts, section 2.1.
    """
    n_experts = logits.shape[-1]
    if not 1 <= experts_per_token <= n_experts:
        raise ValueError(
            f"experts_per_token={experts_per_token} must lie between 1 and {n_experts}, the number "
            "of experts"
        )
    logits = logits.float()  # a softmax in bfloat16 rounds away what tells experts apart
    probabilities = logits.softmax(dim=-1)
    gates, experts = probabilities.topk(experts_per_token, dim=-1)
    if normalize and experts_per_token > 1:
        gates = gates / gates.sum(dim=-1, keepdim=True)
    return Routing(logits, probabilities, experts, gates)


def expert_capacity(
    n_tokens: int, n_experts: int, experts_per_token: int, factor: int | float
) -> int:
    r"""Return how many tokens an expert has room for.

    $C = \lceil c\, k N / E \rceil$, that is `factor` times an even load.

    Example:
        >>> expert_capacity(n_tokens=10, n_experts=4, experts_per_token=1, factor=1.25)
        4

    References:
        Fedus et al. (2022), Switch Transformers, equation 3; Lepikhin et al. (2020), GShard,
        section 2.2.
    """
    return math.ceil(factor * experts_per_token * n_tokens / n_experts)


def within_capacity(
    experts: Int[Tensor, "N k"], n_experts: int, capacity: int
) -> Bool[Tensor, "N k"]:
    """Serve the choices in order until each expert is full.

    Earlier rows come first, and within a row the first choice: a row's fate then depends on no
    later one, so that a causal model stays causal if the rows are sorted by time. (GShard serves
    all first choices before any second one, and lets later tokens push out earlier ones' second.)

    Example:
        >>> within_capacity(torch.tensor([[0], [1], [0], [0]]), n_experts=2, capacity=2).tolist()
        [[True], [True], [True], [False]]

    References:
        Fedus et al. (2022), Switch Transformers, section 2.2; Lepikhin et al. (2020), GShard,
        algorithm 1.
    """
    chosen = F.one_hot(experts.flatten(), n_experts)  # [N k, E]
    place = (chosen.cumsum(dim=0) * chosen).sum(dim=-1)  # 1 for the first to come
    return (place <= capacity).view(experts.shape)


def choice_shares(experts: Int[Tensor, "N k"], n_experts: int) -> Float[Tensor, " E"]:
    """Return the share of all choices that falls on each expert; counts have no gradient.

    Example:
        >>> choice_shares(torch.tensor([[0, 2], [0, 1]]), 3).tolist()
        [0.5, 0.25, 0.25]
    """
    counts = torch.bincount(experts.flatten(), minlength=n_experts)
    return counts.float() / experts.numel()


def switch_balance_loss(
    probabilities: Float[Tensor, "N E"], experts: Int[Tensor, "N k"]
) -> Float[Tensor, ""]:
    r"""Punish probability on experts that get many tokens; the paper has k = 1.

    $\ell = E \sum_i f_i P_i$ with the share $f_i$ of the choices that fall on expert i and its mean
    probability $P_i$. An even load gives 1; all tokens on one expert with certainty, E. Only $P$
    has a gradient: it lowers an expert's probability in proportion to its load.

    Example:
        >>> collapsed = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> switch_balance_loss(collapsed, torch.tensor([[0], [0]])).item()
        2.0

    References:
        Fedus et al. (2022), Switch Transformers, equations 4 to 6. transformers'
        `load_balancing_loss_func` counts choices a token, not shares: k times this.
    """
    n_experts = probabilities.shape[-1]
    shares = choice_shares(experts, n_experts)
    return n_experts * torch.dot(shares, probabilities.mean(dim=0))


def gshard_balance_loss(
    probabilities: Float[Tensor, "N E"], experts: Int[Tensor, "N k"]
) -> Float[Tensor, ""]:
    r"""Punish probability on experts that are many tokens' first choice.

    $\ell = E \sum_i \frac{c_i}{N} m_i$ with the number $c_i$ of tokens whose first choice is expert
    i and its mean gate $m_i$. Second choices are left to the random dispatch of the paper.

    Args:
        experts: The experts each token chose, the most probable first.

    Example:
        >>> even = torch.full((4, 2), 0.5)
        >>> gshard_balance_loss(even, torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0]])).item()
        1.0

    References:
        Lepikhin et al. (2020), GShard, algorithm 1, line 13: $\frac1E \sum_i \frac{c_i}{N} m_i$.
        Here $E^2$ times that, so that an even load costs 1 as in `switch_balance_loss` and one
        weight serves both.
    """
    return switch_balance_loss(probabilities, experts[:, :1])


def router_z_loss(logits: Float[Tensor, "N E"]) -> Float[Tensor, ""]:
    r"""Punish large router scores, whose softmax loses precision; the paper's weight is 0.001.

    $\ell_z = \frac1N \sum_n \bigl(\log \sum_i e^{s_{ni}}\bigr)^2$

    Example:
        >>> round(router_z_loss(torch.zeros(3, 4)).item(), 4)  # (ln 4)^2
        1.9218

    References:
        Zoph et al. (2022), ST-MoE, equation 5.
    """
    return logits.float().logsumexp(dim=-1).square().mean()


def balance_loss(kind: Balance, routing: Routing) -> Float[Tensor, ""] | None:
    """Return the load-balancing loss that a configuration names, before its weight."""
    match kind:
        case "switch":
            return switch_balance_loss(routing.probabilities, routing.experts)
        case "gshard":
            return gshard_balance_loss(routing.probabilities, routing.experts)
        case "none":
            return None
