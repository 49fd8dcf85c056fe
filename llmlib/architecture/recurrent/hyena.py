r"""Hyena: convolutions as long as the text, between multiplications by projections of it.

The order-n operator takes a value $v$ and gates $x^1 \dots x^n$ from the input and alternates:

$$z^1 = v, \qquad z^{i+1} = x^i \odot (h^i * z^i), \qquad y = z^{n+1} .$$

The filters $h^i$ are not stored tap by tap: a small network maps the position of a tap to its
value, so the number of parameters does not depend on the length.

There is no small state here. A filter is a free function of the distance, not a sum of powers, so
the next output needs every earlier $z^i$: what is kept while decoding grows with the text, as a
key/value cache does.

References:
    Poli et al. (2023), Hyena Hierarchy: Towards Larger Convolutional Language Models.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from llmlib.architecture.caches.state_cache import State
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.exact import KeepsFloat32, wide, wide_type
from llmlib.architecture.recurrent.base import RecurrentMixer
from llmlib.architecture.recurrent.convolution import causal_convolution, short_convolution

WIDTH, BANDS, SINE = 64, 8, 10.0
ROOM = 64  # tokens for which memory is set aside at a time while decoding
TARGET, FAST, SLOW = 0.01, 0.3, 1.5


def tap_features(
    n_taps: int, max_len: int, n_bands: int = BANDS, device: torch.device | None = None
) -> Float[Tensor, "taps features"]:
    r"""Return what the filter network sees of each tap: its place on the scale of the longest text.

    $\bigl(t/L,\ \cos 2\pi f t/L,\ \sin 2\pi f t/L\bigr)$ for $f = 1 \dots$ bands

    Args:
        max_len: Length L that stands for 1.

    Example:
        >>> tap_features(5, 4, 1)[4].round(decimals=3).abs().tolist()  # once round
        [1.0, 1.0, 0.0]

    References:
        Poli et al. (2023), appendix D.3.
    """
    time = torch.arange(n_taps, dtype=torch.float32, device=device).unsqueeze(-1) / max_len
    bands = torch.arange(1, n_bands + 1, dtype=torch.float32, device=device)
    angles = 2 * math.pi * bands * time  # [taps, bands]
    return torch.cat((time, angles.cos(), angles.sin()), dim=-1)


def decay_window(
    n_taps: int, max_len: int, n_channels: int, device: torch.device | None = None
) -> Float[Tensor, "D taps"]:
    r"""Return how far each channel's filter reaches: $e^{-\alpha_d t/L}$.

    The rates $\alpha_d$ run evenly from slow to fast: the first channel falls to 1% after 1.5 times
    the longest text, the last after 0.3 of it.

    Example:
        >>> decay_window(4, 4, 2)[:, 0].tolist()
        [1.0, 1.0]

    References:
        Poli et al. (2023), section 3.3 and appendix D.3.
    """
    slow, fast = -math.log(TARGET) / SLOW, -math.log(TARGET) / FAST
    rates = torch.linspace(slow, fast, n_channels, dtype=torch.float32, device=device)
    return (-rates.unsqueeze(-1) * torch.arange(n_taps, device=device) / max_len).exp()


class ImplicitFilters(KeepsFloat32):
    r"""Filters given by a network of a tap's position: $h_t = w_t \odot \mathrm{FFN}(f_t)$.

    $w$ is the decay window, $f$ the features. The network's activations are sines, because a small
    network of ReLUs or tanhs cannot draw the fast wiggles that a filter needs. The last layer
    starts so small that every filter has about unit energy.

    Args:
        n_filters: Convolutions in a row, each with a filter a channel.
        max_len: Length of the longest text.

    References:
        Poli et al. (2023), section 3.3; Sitzmann et al. (2020), Implicit Neural Representations
        with Periodic Activation Functions.
    """

    # Each sine makes a rounding error ten times as large.
    exact = ("first.weight", "first.bias", "second.weight", "second.bias")

    def __init__(self, n_filters: int, n_channels: int, max_len: int) -> None:
        super().__init__()
        self.n_filters, self.n_channels, self.max_len = n_filters, n_channels, max_len
        dtype = wide_type(torch.get_default_dtype())
        self.first = nn.Linear(2 * BANDS + 1, WIDTH, dtype=dtype)
        self.second = nn.Linear(WIDTH, WIDTH, dtype=dtype)
        self.last = nn.Linear(WIDTH, n_filters * n_channels, bias=False)
        self.skip = nn.Parameter(torch.empty(n_filters * n_channels))
        self._fixed: tuple[Tensor, Tensor] | None = None
        self._kept: tuple[list[Tensor], Tensor] | None = None
        self.reset_parameters()
        self._features_and_window()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for linear in (self.first, self.second):
            bound = 1 / math.sqrt(linear.in_features)
            nn.init.uniform_(linear.weight, -bound, bound)
            nn.init.uniform_(linear.bias, -bound, bound)
        nn.init.normal_(self.last.weight)
        window = decay_window(self.max_len, self.max_len, self.n_channels, self.skip.device)
        energy = window.square().sum(dim=-1)  # [D], of a filter of ones
        gain = (energy * WIDTH / 2).rsqrt().repeat(self.n_filters)  # a sine's mean square is 1/2
        with torch.no_grad():
            self.last.weight.mul_(gain.to(self.last.weight).unsqueeze(-1))
        nn.init.normal_(self.skip)

    def forward(self, n_taps: int) -> Float[Tensor, "order D taps"]:
        """Return the first taps of every filter and channel, the direct path added to tap 0.

        In float32 at least. Without gradients they are computed once for the same parameters.

        Raises:
            ValueError: When more taps are asked for than `max_len`.
        """
        if n_taps > self.max_len:
            raise ValueError(
                f"{n_taps} tokens are more than max_seq_len={self.max_len}, the length on which "
                "the filters are defined: build the model with a larger max_seq_len"
            )
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._taps(n_taps)
        if self._kept is None or not self._are_parameters(self._kept[0]):
            parameters = [p.detach().clone() for p in self.parameters()]
            self._kept = (parameters, self._taps(self.max_len))
        return self._kept[1][:, :, :n_taps]

    def _are_parameters(self, earlier: list[Tensor]) -> bool:
        """Compare all numbers: addresses and version counters do not see a change of `p.data`."""
        return all(
            old.device == new.device and old.dtype == new.dtype and torch.equal(old, new)
            for old, new in zip(earlier, self.parameters(), strict=True)
        )

    def _features_and_window(self) -> tuple[Tensor, Tensor]:
        """Return what no parameter changes, for all taps; a buffer would follow `.to(dtype)`."""
        device, exact = self.skip.device, wide_type(self.skip.dtype)
        if self._fixed is None or (self._fixed[0].device, self._fixed[0].dtype) != (device, exact):
            with torch.inference_mode(False):  # else no gradient could be taken with them later
                self._fixed = (
                    tap_features(self.max_len, self.max_len, device=device).to(exact),
                    decay_window(self.max_len, self.max_len, self.n_channels, device).to(exact),
                )
        return self._fixed

    def _taps(self, n_taps: int) -> Tensor:
        features, window = self._features_and_window()
        with torch.autocast(self.skip.device.type, enabled=False):
            hidden = features[:n_taps]
            for linear in (self.first, self.second):
                hidden = F.linear(hidden, wide(linear.weight), wide(linear.bias))
                hidden = torch.sin(SINE * hidden)
            shaped = F.linear(hidden, wide(self.last.weight)).mT
            shaped = shaped.view(self.n_filters, self.n_channels, n_taps)
            filters = shaped * window[:, :n_taps]
            direct = torch.zeros_like(filters)
            direct[:, :, 0] = wide(self.skip).view(self.n_filters, self.n_channels)
            return filters + direct


class Hyena(RecurrentMixer):
    """The Hyena operator of any order, on projections smoothed by a short convolution.

    Order 1 is gated convolution, order 2 does what H3 does with free filters in place of state
    spaces.

    Args:
        config: The model's configuration; `conv_kernel` taps for the short convolutions, filters up
            to `max_seq_len`.
        order: Number of long convolutions, n.

    References:
        Poli et al. (2023), definition 3.1, algorithms 1 to 3.
    """

    def __init__(self, config: ModelConfig, order: int = 2) -> None:
        super().__init__(config)
        if order < 1:
            raise ValueError(f"order={order}: the operator has one long convolution or more")
        self.order = order
        self.streams = nn.Linear(config.d_model, (order + 1) * config.d_model, bias=config.bias)
        self.short = nn.Parameter(torch.empty((order + 1) * config.d_model * config.conv_kernel))
        self.filters = ImplicitFilters(order, config.d_model, config.max_seq_len)
        self.out = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.reset_parameters()

    @property
    @override
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        return {"streams.weight": (self.config.d_model,) * (self.order + 1)}

    @override
    def reset_parameters(self) -> None:
        self.filters.reset_parameters()
        bound = self.config.conv_kernel**-0.5
        nn.init.uniform_(self.short, -bound, bound)
        self.reset_linear(self.streams)
        self.reset_linear(self.out, into_residual=True)

    @override
    def mix(
        self, x: Float[Tensor, "B T D"], state: State, context: Context | None, *, keeps_state: bool
    ) -> tuple[Float[Tensor, "B T D"], State]:
        short = self.short.view(-1, self.config.conv_kernel).to(x.dtype)
        streams = self.streams(x).mT  # [B, (n + 1) D, T]
        streams, past = short_convolution(streams, short, state.get("past"))
        value, *gates = streams.chunk(self.order + 1, dim=1)
        value, inputs = self._alternate(value, gates, state)
        return self.out(value.mT), {"past": past, **inputs}

    def _alternate(self, value: Tensor, gates: list[Tensor], state: State) -> tuple[Tensor, State]:
        """Convolve and gate in turns; return the result and all inputs of the convolutions."""
        batch_size, _, n_new = value.shape
        n_past = int(state["length"][0]) if state else 0
        length = n_past + n_new
        filters = self.filters(length)
        kept: State = {"length": torch.full((batch_size,), length, device=value.device)}
        for i, gate in enumerate(gates):
            held = kept[f"inputs{i}"] = _append(state.get(f"inputs{i}"), n_past, value)
            seen = held[:, :, :length]
            if n_new == 1:  # one output of the convolution: the sum itself
                taps = filters[i].flip(-1).unsqueeze(1)
                with torch.autocast(value.device.type, enabled=False):
                    rows = torch.bmm(taps, wide(seen).permute(1, 2, 0))  # [D, 1, B]: 5 times
                mixed = rows.permute(2, 0, 1).to(seen)  # faster than the sum as an einsum
            else:
                mixed = causal_convolution(seen, filters[i])[..., n_past:]
            value = gate * mixed
        return value, kept


def _append(
    held: Float[Tensor, "B D room"] | None, n_held: int, new: Float[Tensor, "B D T"]
) -> Float[Tensor, "B D room2"]:
    """Write new inputs behind the held ones, in place where there is room."""
    if held is None:
        return new
    missing = n_held + new.shape[-1] - held.shape[-1]
    if missing > 0:  # in blocks: a new tensor for each token would copy the whole text each time
        held = F.pad(held, (0, -(-missing // ROOM) * ROOM))
    held[:, :, n_held : n_held + new.shape[-1]] = new
    return held
