r"""RWKV-4: attention's weighted mean with weights that depend on key and age alone.

$$\mathrm{wkv}_t = \frac{\sum_{i<t} e^{-(t-1-i)w + k_i} v_i + e^{u + k_t} v_t}
{\sum_{i<t} e^{-(t-1-i)w + k_i} + e^{u + k_t}}$$

for each channel by itself: w is how fast it forgets, u a bonus for the present token. Numerator and
denominator are each a linear recurrence, so a state of three numbers a channel is enough.

References:
    Peng et al. (2023), RWKV: Reinventing RNNs for the Transformer Era.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from llmlib.architecture.caches.state_cache import State
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.exact import empty_wide, wide
from llmlib.architecture.recurrent.base import RecurrentMixer
from llmlib.architecture.recurrent.scan import linear_scan

WKVState = tuple[Float[Tensor, "B D"], Float[Tensor, "B D"], Float[Tensor, "B D"]]


def recurrent_wkv(
    rates: Float[Tensor, " D"],
    bonus: Float[Tensor, " D"],
    keys: Float[Tensor, "B T D"],
    values: Float[Tensor, "B T D"],
    state: WKVState | None = None,
) -> tuple[Float[Tensor, "B T D"], WKVState]:
    r"""Compute wkv token by token.

    Keys are exponents without bound, so numerator and denominator are both held divided by $e^p$,
    with p the largest exponent in them: $p_t = \max(p_{t-1} - w, k_t)$.

    Args:
        rates: w, above 0: by how much the exponent of an old token falls with each new one.
        bonus: u, added to the exponent of the present token.
        state: Numerator, denominator and p before the first token. Default: no token yet.

    Example:
        >>> zero = torch.zeros(1)
        >>> values = torch.tensor([[[1.0], [3.0]]])
        >>> recurrent_wkv(zero, zero, torch.zeros(1, 2, 1), values)[0].flatten().tolist()
        [1.0, 2.0]

    References:
        Peng et al. (2023), equation 16 and appendix D, equations 23 to 28.
    """
    top, below, p = _no_tokens(keys) if state is None else state
    outputs = []
    for k, v in zip(keys.unbind(1), values.unbind(1), strict=True):
        q = torch.maximum(p, bonus + k)
        old, new = (p - q).exp(), (bonus + k - q).exp()
        outputs.append((old * top + new * v) / (old * below + new))
        q = torch.maximum(p - rates, k)
        old, new = (p - rates - q).exp(), (k - q).exp()
        top, below, p = old * top + new * v, old * below + new, q
    return torch.stack(outputs, dim=1), (top, below, p)


def parallel_wkv(
    rates: Float[Tensor, " D"],
    bonus: Float[Tensor, " D"],
    keys: Float[Tensor, "B T D"],
    values: Float[Tensor, "B T D"],
    state: WKVState | None = None,
) -> tuple[Float[Tensor, "B T D"], WKVState]:
    r"""Return what `recurrent_wkv` returns, all tokens at once: largest exponents, then one scan.

    Given every $p_t$, numerator and denominator follow the linear recurrence with the factor
    $e^{p_{t-1} - w - p_t} \le 1$ and the inputs $e^{k_t - p_t} v_t$ and $e^{k_t - p_t}$. The result
    does not depend on p, so no gradient flows through it.
    """
    top, below, p_before = _no_tokens(keys) if state is None else state
    with torch.no_grad():
        peaks = running_peaks(keys, rates, p_before)  # [B, T + 1, D]
        p_old, p_new = peaks[:, :-1], peaks[:, 1:]
        q = torch.maximum(p_old, bonus + keys)
    enters = (keys - p_new).exp()
    sums = linear_scan(
        (p_old - rates - p_new).exp().unsqueeze(2),
        torch.stack((enters * values, enters), dim=2),
        torch.stack((top, below), dim=1),
    )  # [B, T, 2, D]
    before = torch.stack((top, below), dim=1).unsqueeze(1)
    tops, belows = torch.cat((before, sums[:, :-1]), dim=1).unbind(2)  # [B, T, D] each
    old, new = (p_old - q).exp(), (bonus + keys - q).exp()
    outputs = (old * tops + new * values) / (old * belows + new)
    return outputs, (sums[:, -1, 0], sums[:, -1, 1], p_new[:, -1])


def running_peaks(
    keys: Float[Tensor, "B T D"], rates: Float[Tensor, " D"], before: Float[Tensor, "B D"]
) -> Float[Tensor, "B T1 D"]:
    r"""Return all $p_t = \max(p_{t-1} - w, k_t)$ in $\log_2 T$ steps, the one before them first.

    After the step of length s an entry is the maximum over the last 2s tokens.

    Args:
        before: p before the first token; minus infinity if there was none.

    Example:
        >>> keys = torch.tensor([[[2.0], [0.0], [1.5]]])
        >>> running_peaks(keys, torch.ones(1), torch.zeros(1, 1)).flatten().tolist()
        [0.0, 2.0, 1.0, 1.5]
    """
    peaks = torch.cat((before.unsqueeze(1), keys), dim=1)  # [B, T + 1, D]
    span = 1
    while span < peaks.shape[1]:
        longer = torch.maximum(peaks[:, span:], peaks[:, :-span] - span * rates)
        peaks = torch.cat((peaks[:, :span], longer), dim=1)
        span *= 2
    return peaks


def _no_tokens(keys: Tensor) -> WKVState:
    nothing = torch.zeros_like(keys[:, 0])
    return nothing, nothing, torch.full_like(nothing, -torch.inf)


def token_shift(
    x: Float[Tensor, "B T D"], before: Float[Tensor, "B D"] | None
) -> Float[Tensor, "B T D"]:
    """Return for each token the one before it; for the first, `before` or zeros.

    Example:
        >>> token_shift(torch.tensor([[[1.0], [2.0]]]), None).flatten().tolist()
        [0.0, 1.0]
    """
    first = torch.zeros_like(x[:, 0]) if before is None else before
    return torch.cat((first.unsqueeze(1), x[:, :-1]), dim=1)


class TimeMix(RecurrentMixer):
    r"""RWKV's token mixer: $o = W_o\,(\sigma(r) \odot \mathrm{wkv}(k, v))$.

    Receptance r, key k and value v are projections of a channel-wise mean of the token and the one
    before it (token shift), with learned weights $\mu$: $r = W_r(\mu_r \odot x_t + (1 - \mu_r)
    \odot x_{t-1})$.

    Args:
        layer: Index of the block, from 0: the initial decays depend on it.

    References:
        Peng et al. (2023), section 3.1, equations 11 to 17; appendix E (initialization).
    """

    exact = ("log_rates", "bonus")

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config)
        self.index = layer
        width = config.d_model
        self.mix_receptance = nn.Parameter(torch.empty(width))
        self.mix_key = nn.Parameter(torch.empty(width))
        self.mix_value = nn.Parameter(torch.empty(width))
        self.log_rates = nn.Parameter(empty_wide(width))
        self.bonus = nn.Parameter(empty_wide(width))
        self.receptance = nn.Linear(width, width, bias=config.bias)
        self.key = nn.Linear(width, width, bias=config.bias)
        self.value = nn.Linear(width, width, bias=config.bias)
        self.out = nn.Linear(width, width, bias=config.bias)
        self.reset_parameters()

    @override
    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Draw new weights; decays and mixes follow from the layer and the channel.

        With channel i of D in layer l of L: $\ln w_i = -5 + 8\,(i/(D-1))^{0.7 + 1.3\,l/(L-1)}$, so
        that the first channels of a deep layer remember long;
        $u_i = \ln 0.3 + (((i+1) \bmod 3) - 1)/2$; $\mu_k = (i/D)^{1-l/L}$,
        $\mu_v = \mu_k + 0.3\,l/(L-1)$, $\mu_r = \sqrt{\mu_k}$. The paper's code starts keys,
        receptance and output at zero, here they are normal like every design's matrices.
        """
        for linear in (self.receptance, self.key, self.value):
            self.reset_linear(linear)
        self.reset_linear(self.out, into_residual=True)
        width, n_layers = self.config.d_model, self.config.n_layers
        depth = self.index / max(1, n_layers - 1)
        channels = torch.arange(width, dtype=torch.float32, device=self.bonus.device)
        place = channels / max(1, width - 1)
        self.log_rates.copy_(-5 + 8 * place ** (0.7 + 1.3 * depth))
        self.bonus.copy_(math.log(0.3) + 0.5 * ((channels + 1) % 3 - 1))
        mix = initial_mix(width, self.index, n_layers).to(channels.device)
        self.mix_key.copy_(mix)
        self.mix_value.copy_(mix + 0.3 * depth)
        self.mix_receptance.copy_(mix.sqrt())

    @override
    def mix(
        self, x: Float[Tensor, "B T D"], state: State, context: Context | None, *, keeps_state: bool
    ) -> tuple[Float[Tensor, "B T D"], State]:
        shifted = token_shift(x, state.get("time_shift"))
        receptance = self.receptance(torch.lerp(shifted, x, self.mix_receptance.to(x.dtype)))
        keys = self.key(torch.lerp(shifted, x, self.mix_key.to(x.dtype)))
        values = self.value(torch.lerp(shifted, x, self.mix_value.to(x.dtype)))
        before = (state["top"], state["below"], state["peak"]) if "peak" in state else None
        with torch.autocast(x.device.type, enabled=False):
            mixed, after = parallel_wkv(
                wide(self.log_rates).exp(), wide(self.bonus), wide(keys), wide(values), before
            )
        top, below, peak = after
        kept = {"top": top, "below": below, "peak": peak, "time_shift": x[:, -1]}
        # Copies: a view would keep the whole text in memory.
        kept = {name: value.clone() for name, value in kept.items()}
        return self.out(receptance.sigmoid() * mixed.to(receptance.dtype)), kept


class ChannelMix(RecurrentMixer):
    r"""RWKV's feed-forward layer: $\sigma(W_r x'_r) \odot W_o \max(W_k x'_k, 0)^2$.

    $x'$ is again a mean of the token and the one before it.

    References:
        Peng et al. (2023), section 3.1, equation 18; So et al. (2021), Primer (squared ReLU).
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config)
        self.index = layer
        width = config.d_model
        self.mix_receptance = nn.Parameter(torch.empty(width))
        self.mix_key = nn.Parameter(torch.empty(width))
        self.receptance = nn.Linear(width, width, bias=config.bias)
        self.key = nn.Linear(width, config.d_ff, bias=config.bias)
        self.out = nn.Linear(config.d_ff, width, bias=config.bias)
        self.reset_parameters()

    @override
    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Draw new weights; $\mu_k = \mu_r = (i/D)^{1-l/L}$ as in `TimeMix`."""
        for linear in (self.receptance, self.key):
            self.reset_linear(linear)
        self.reset_linear(self.out, into_residual=True)
        mix = initial_mix(self.config.d_model, self.index, self.config.n_layers)
        self.mix_key.copy_(mix)
        self.mix_receptance.copy_(mix)

    @override
    def mix(
        self, x: Float[Tensor, "B T D"], state: State, context: Context | None, *, keeps_state: bool
    ) -> tuple[Float[Tensor, "B T D"], State]:
        shifted = token_shift(x, state.get("channel_shift"))
        receptance = self.receptance(torch.lerp(shifted, x, self.mix_receptance.to(x.dtype)))
        keys = self.key(torch.lerp(shifted, x, self.mix_key.to(x.dtype)))
        mixed = receptance.sigmoid() * self.out(keys.relu().square())
        return mixed, {"channel_shift": x[:, -1].clone()}


def initial_mix(width: int, layer: int, n_layers: int) -> Float[Tensor, " D"]:
    """Return how much of each channel comes from the present token at first: $(i/D)^{1-l/L}$.

    The first channels look back.

    Example:
        >>> initial_mix(4, 0, 2).tolist()
        [0.0, 0.25, 0.5, 0.75]

    References:
        Peng et al. (2023), appendix E.
    """
    return (torch.arange(width, dtype=torch.float32) / width) ** (1 - layer / n_layers)
