"""One layer of the decoder: something mixes the tokens, then something transforms each."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from llmlib.architecture.attention.latent import LatentAttention
from llmlib.architecture.attention.multihead import Attention
from llmlib.architecture.attention.rerope import TruncatedAttention
from llmlib.architecture.caches.base import Cache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.experts.grouped_linear import Stacked
from llmlib.architecture.experts.mixture_of_experts import MixtureOfExperts
from llmlib.architecture.feedforward import FeedForward
from llmlib.architecture.norms import make_norm
from llmlib.architecture.recurrent.base import RecurrentMixer
from llmlib.architecture.recurrent.h3 import H3
from llmlib.architecture.recurrent.hyena import Hyena
from llmlib.architecture.recurrent.mamba import Mamba
from llmlib.architecture.recurrent.retnet import Retention
from llmlib.architecture.recurrent.rwkv import ChannelMix, TimeMix
from llmlib.architecture.recurrent.s4 import S4


class Block(nn.Module):
    r"""One layer: a mixer between the tokens, then a channel mixer on each.

    With $f$ the sublayer and $\mathrm{n}$ its norm:

    - pre: $x \leftarrow x + f(\mathrm{n}(x))$
    - post: $x \leftarrow \mathrm{n}(x + f(x))$
    - sandwich: $x \leftarrow x + \mathrm{n}'(f(\mathrm{n}(x)))$
    - deepnorm: $x \leftarrow \mathrm{n}(\alpha x + f(x))$ with $\alpha = (2L)^{1/4}$, L layers
    - parallel: $x \leftarrow x + f_1(\mathrm{n}(x)) + f_2(\mathrm{n}(x))$

    References:
        Vaswani et al. (2017), figure 1 (post); Xiong et al. (2020), On Layer Normalization in the
        Transformer Architecture (pre); Ding et al. (2021), CogView, section 2.4 (sandwich); Wang
        et al. (2022), DeepNet, section 3 (deepnorm); Chowdhery et al. (2022), PaLM, section 2
        (parallel).
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.layer = layer
        self.mixer_norm = make_norm(config)
        self.mixer = make_mixer(config, layer)
        self.has_channel_mixer = config.channel_mixer != "none"
        if self.has_channel_mixer:
            self.feedforward = make_channel_mixer(config, layer)
            if not config.parallel:
                self.feedforward_norm = make_norm(config)
        if config.norm_placement == "sandwich":
            self.mixer_out_norm = make_norm(config)
            if self.has_channel_mixer:
                self.feedforward_out_norm = make_norm(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "B T D"], context: Context, cache: Cache | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return the residual stream after the block; the cache is extended in place."""
        placement = self.config.norm_placement
        if self.config.parallel:
            normed = self.mixer_norm(x)
            both = self._mix(normed, context, cache) + self._transform(normed, cache)
            return x + self.dropout(both)
        if placement in ("pre", "sandwich"):
            mixed = self._mix(self.mixer_norm(x), context, cache)
            if placement == "sandwich":
                mixed = self.mixer_out_norm(mixed)
            x = x + self.dropout(mixed)
            if not self.has_channel_mixer:
                return x
            transformed = self._transform(self.feedforward_norm(x), cache)
            if placement == "sandwich":
                transformed = self.feedforward_out_norm(transformed)
            return x + self.dropout(transformed)
        alpha = self.config.residual_scale
        x = self.mixer_norm(alpha * x + self.dropout(self._mix(x, context, cache)))
        if not self.has_channel_mixer:
            return x
        return self.feedforward_norm(alpha * x + self.dropout(self._transform(x, cache)))

    def _mix(self, x: Tensor, context: Context, cache: Cache | None) -> Tensor:
        return self.mixer(x, context, cache, self.layer)

    def _transform(self, x: Tensor, cache: Cache | None) -> Tensor:
        if isinstance(self.feedforward, ChannelMix):  # it looks one token back
            return self.feedforward(x, cache=cache, layer=self.layer)
        return self.feedforward(x)

    def reset_parameters(self) -> None:
        r"""Draw new weights: normal, smaller where they feed the residual stream, biases zero.

        The mixers without attention draw their own. DeepNorm's are Xavier's, times
        $\beta = (8L)^{-1/4}$ for values, outputs and the feed-forward layer.
        """
        config = self.config
        into_residual = config.init_std / math.sqrt(2 * config.n_layers)
        own = [m for m in self.children() if isinstance(m, RecurrentMixer)]
        drawn = {id(parameter) for module in own for parameter in module.parameters()}
        for name, parameter in self.named_parameters():
            if id(parameter) in drawn:
                continue
            if parameter.dim() == 1:
                nn.init.constant_(parameter, 1.0 if name.endswith("norm.weight") else 0.0)
            else:
                is_output = name.endswith(".out.weight")
                nn.init.normal_(parameter, std=into_residual if is_output else config.init_std)
        for module in own:
            module.reset_parameters()
        if config.norm_placement == "deepnorm":
            self._reset_deepnorm()

    def _reset_deepnorm(self) -> None:
        beta = (8 * self.config.n_layers) ** -0.25
        if self.config.is_attention:  # values are the last rows of their product
            _draw_xavier(self.mixer, 1.0, {"qkv": beta, "up": beta, "out": beta})
        if self.has_channel_mixer and isinstance(self.feedforward, FeedForward | MixtureOfExperts):
            _draw_xavier(self.feedforward, beta, {"router": 1.0})


def _draw_xavier(sublayer: nn.Module, gain: float, last_gains: dict[str, float]) -> None:
    """Draw each matrix of a sublayer with a gain, the last one of some products with another."""
    for owner in sublayer.modules():
        stacked = getattr(owner, "stacked_rows", {})
        for name, product in owner.named_children():
            if isinstance(product, nn.Linear | Stacked):
                rows = stacked.get(f"{name}.weight", (len(product.weight),))
                *others, last = product.weight.detach().split(rows)
                for matrix in others:
                    nn.init.xavier_normal_(matrix, gain=gain)
                nn.init.xavier_normal_(last, gain=last_gains.get(name, gain))


def make_mixer(config: ModelConfig, layer: int) -> nn.Module:
    """Return what mixes the tokens of a layer, called as `mixer(x, context, cache, layer)`."""
    match config.mixer:
        case "attention":
            kind = TruncatedAttention if config.rope_scaling == "rerope" else Attention
            return kind(config, layer)
        case "latent":
            return LatentAttention(config)
        case "s4":
            return S4(config)
        case "h3":
            return H3(config)
        case "mamba":
            return Mamba(config)
        case "rwkv":
            return TimeMix(config, layer)
        case "retnet":
            return Retention(config)
        case "hyena":
            return Hyena(config)


def make_channel_mixer(config: ModelConfig, layer: int) -> nn.Module:
    """Return what transforms each token of a layer: feed-forward, a mixture of them, or RWKV's."""
    if config.channel_mixer == "rwkv":
        return ChannelMix(config, layer)
    if config.n_experts:
        return MixtureOfExperts(config)
    return FeedForward(config)
