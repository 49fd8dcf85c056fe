r"""Linear state spaces with a diagonal state matrix: S4 in its simple form, S4D.

A linear state space keeps N numbers of state for each channel. In continuous time

$$\dot h(t) = A\,h(t) + b\,u(t), \qquad y(t) = \mathrm{Re}\; c^\top h(t) + d\,u(t),$$

and sampled every $\Delta$ (see `discretize`) $h_t = \bar A h_{t-1} + \bar b u_t$. Nothing in it
depends on the input, so unrolling it gives $y = K * u$ with $K_l = c^\top \bar A^l \bar b$: a
convolution to train with, a recurrence to decode with.

What made S4 work is the matrix $A$. HiPPO-LegS, which lets the state hold the coefficients of the
whole past in Legendre polynomials, cannot be diagonalized in floating point: its eigenvectors have
entries of size $2^{4N/3}$. S4 (Gu, Goel and Re, 2022) writes it as *normal plus low rank* (NPLR),
$A = V \Lambda V^* - p\,p^\top$ with $V$ unitary, which a change of basis turns into *diagonal*
plus low rank. The low rank makes powers of $\bar A$ dense, so S4 evaluates the transform of the
kernel at the roots of unity instead (a Cauchy product and Woodbury's identity) and transforms back.
Then DSS (Gupta et al., 2022) and S4D (Gu et al., 2022) found that the diagonal part $\Lambda$ alone
does nearly as well. Its powers are powers of numbers, and its kernel is one product with a
Vandermonde matrix: that is the form of this module. The poles that S4 would start from survive in
the initialization, `initial_poles`.

References:
    Gu, Goel and Re (2022), Efficiently Modeling Long Sequences with Structured State Spaces; Gu,
    Gupta, Goel and Re (2022), On the Parameterization and Initialization of Diagonal State Space
    Models.
"""

import math
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from llmlib.architecture.caches.state_cache import State
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.exact import KeepsFloat32, empty_wide, wide
from llmlib.architecture.recurrent.base import RecurrentMixer
from llmlib.architecture.recurrent.convolution import causal_convolution

Poles = Literal["linear", "inverse"]
FASTEST_STEP, SLOWEST_STEP = 0.1, 0.001


def initial_poles(state_dim: int, kind: Poles = "inverse") -> Complex[Tensor, " half"]:
    r"""Return where the eigenvalues of a channel's state matrix start.

    `inverse` (S4D-Inv) approximates the eigenvalues of S4's normal part:
    $A_n = -\tfrac12 + i\,\tfrac N\pi \left(\tfrac{N}{2n+1} - 1\right)$; `linear` (S4D-Lin) is a
    Fourier basis: $A_n = -\tfrac12 + i\pi n$.

    Args:
        state_dim: Real numbers of state, N, even: N/2 eigenvalues and their conjugates.

    Raises:
        ValueError: When `state_dim` is odd or not positive.

    Example:
        >>> initial_poles(4, "linear").imag.round(decimals=2).tolist()
        [0.0, 3.14]

    References:
        Gu, Gupta, Goel and Re (2022), equations 8 and 9.
    """
    if state_dim < 2 or state_dim % 2:
        raise ValueError(f"state_dim={state_dim}: complex states come in pairs, make it even")
    n = torch.arange(state_dim // 2, dtype=torch.float64)
    if kind == "linear":
        imaginary = math.pi * n
    else:
        imaginary = state_dim / math.pi * (state_dim / (2 * n + 1) - 1)
    return torch.complex(torch.full_like(n, -0.5), imaginary)


def discretize(
    poles: Complex[Tensor, "D half"], step: Float[Tensor, " D"]
) -> tuple[Complex[Tensor, "D half"], Complex[Tensor, "D half"]]:
    r"""Sample a diagonal state space, its input held constant between samples.

    $\bar A = e^{\Delta A}$, $\bar b = A^{-1}(e^{\Delta A} - 1)\,b$ with $b = 1$

    Args:
        poles: Eigenvalues of the state matrix, with negative real part.
        step: Time between two tokens, $\Delta$, for each channel.

    Returns:
        The logarithm $\Delta A$ of the factor by which a token multiplies the state, and the
        factor $\bar b$ by which its input enters.

    Example:
        >>> log_factors, gains = discretize(torch.tensor([[-1.0 + 0j]]), torch.tensor([0.5]))
        >>> round(log_factors.exp().real.item(), 4), round(gains.real.item(), 4)
        (0.6065, 0.3935)

    References:
        Gu, Gupta, Goel and Re (2022), equation 5 (zero-order hold).
    """
    log_factors = poles * step.unsqueeze(-1)
    return log_factors, (log_factors.exp() - 1) / poles


def ssm_kernel(
    log_factors: Complex[Tensor, "*channels half"],
    weights: Complex[Tensor, "*channels half"],
    length: int,
) -> Float[Tensor, "*channels taps"]:
    r"""Return the convolution kernel of a diagonal state space, a Vandermonde product.

    $K_l = 2\,\mathrm{Re} \sum_n w_n\, \bar A_n^l$ for $l = 0 \dots \mathrm{length} - 1$, where
    $w_n = c_n \bar b_n$ are the weights; the factor 2 stands for the conjugate eigenvalues.

    The matrix of all powers would be N times as large as the kernel. With $l = m i + j$ the power
    is $\bar A^{mi} \bar A^j$, so two tables of about $\sqrt{\mathrm{length}}$ powers and one matrix
    product give the same.

    Example:
        >>> half = torch.tensor([math.log(0.5) + 0j])
        >>> ssm_kernel(half, torch.tensor([0.5 + 0j]), 3).tolist()
        [1.0, 0.5, 0.25]

    References:
        Gu, Gupta, Goel and Re (2022), equation 6.
    """
    block = max(1, math.isqrt(length))
    steps = torch.arange(block, device=weights.device)
    starts = torch.arange(0, length, block, device=weights.device)
    coarse = (log_factors.unsqueeze(-1) * starts).exp() * weights.unsqueeze(-1)  # [*, half, blocks]
    fine = (log_factors.unsqueeze(-1) * steps).exp()  # [*, half, block]
    left = torch.cat((coarse.real, -coarse.imag), dim=-2).mT  # [*, blocks, 2 half]
    right = torch.cat((fine.real, fine.imag), dim=-2)  # [*, 2 half, block]
    return 2 * (left @ right).flatten(-2)[..., :length]


def ssm_recurrence(
    inputs: Float[Tensor, "B D T"],
    log_factors: Complex[Tensor, "D half"],
    weights: Complex[Tensor, "D half"],
    state: Complex[Tensor, "B D half"] | None = None,
) -> tuple[Float[Tensor, "B D T"], Complex[Tensor, "B D half"]]:
    r"""Run a diagonal state space token by token; return its outputs and the last state.

    $h_t = \bar A \odot h_{t-1} + u_t$, $y_t = 2\,\mathrm{Re}\; w^\top h_t$

    Args:
        log_factors: $\ln \bar A$.
        weights: $w = c \odot \bar b$: the input's weight is applied on the way out.

    Example:
        >>> half, weight = torch.tensor([[math.log(0.5) + 0j]]), torch.tensor([[0.5 + 0j]])
        >>> y, state = ssm_recurrence(torch.tensor([[[1.0, 0.0, 4.0]]]), half, weight)
        >>> y.flatten().tolist(), state.real.item()
        ([1.0, 0.5, 4.25], 4.25)
    """
    factors = log_factors.exp()
    if state is None:
        state = factors.new_zeros(inputs.shape[0], *factors.shape)
    outputs = []
    for u in inputs.unbind(dim=-1):
        state = factors * state + u.unsqueeze(-1)  # [B, D, half]
        outputs.append(2 * (weights * state).sum(dim=-1).real)
    return torch.stack(outputs, dim=-1), state


def ssm_convolution(
    inputs: Float[Tensor, "B D T"],
    log_factors: Complex[Tensor, "D half"],
    weights: Complex[Tensor, "D half"],
    state: Complex[Tensor, "B D half"] | None = None,
) -> tuple[Float[Tensor, "B D T"], Complex[Tensor, "B D half"]]:
    r"""Return what `ssm_recurrence` returns, all tokens at once.

    By linearity the output is the convolution of the inputs with the kernel, plus what is left of
    the first state, $2\,\mathrm{Re}\; w^\top \bar A^{t+1} h_{-1}$; and the last state is
    $\bar A^T h_{-1} + \sum_t \bar A^{T-1-t} u_t$.
    """
    length = inputs.shape[-1]
    outputs = causal_convolution(inputs, ssm_kernel(log_factors, weights, length))
    last = _last_state(inputs, log_factors)
    if state is None:
        return outputs, last
    factors = log_factors.exp()
    echo = ssm_kernel(log_factors.expand_as(state), weights * factors * state, length)
    return outputs + echo, last + (log_factors * length).exp() * state


def _last_state(inputs: Tensor, log_factors: Tensor) -> Tensor:
    """Sum the inputs, each times the power that its age gives it, by two small tables of powers."""
    length = inputs.shape[-1]
    block = max(1, math.isqrt(length))
    padded = F.pad(inputs, (-length % block, 0))  # zeros before the first token change nothing
    blocks = padded.unflatten(-1, (-1, block)).to(log_factors.dtype)
    fine = torch.arange(block - 1, -1, -1, device=inputs.device)
    coarse = torch.arange(blocks.shape[-2] - 1, -1, -1, device=inputs.device) * block
    fine_powers, coarse_powers = ((log_factors.unsqueeze(-1) * x).exp() for x in (fine, coarse))
    inner = torch.einsum("bdij,dnj->bdin", blocks, fine_powers)
    return torch.einsum("bdin,dni->bdn", inner, coarse_powers)


class DiagonalSSM(KeepsFloat32):
    """A diagonal state space for each channel, with a direct path from input to output.

    The real parts are stored as logarithms, so that the state always decays, and the steps too.
    All parameters are flat vectors: an optimizer that orthogonalizes or decays matrices would treat
    these tables of separate numbers as matrices otherwise.

    Args:
        state_dim: Real numbers of state a channel, N, even.

    References:
        Gu, Gupta, Goel and Re (2022), section 4 and appendix B.
    """

    exact = ("log_decay", "frequency", "log_step")

    def __init__(self, n_channels: int, state_dim: int) -> None:
        super().__init__()
        self.n_channels, self.state_dim = n_channels, state_dim
        n_pairs = n_channels * state_dim // 2
        self.log_decay = nn.Parameter(empty_wide(n_pairs))  # ln(-Re A)
        self.frequency = nn.Parameter(empty_wide(n_pairs))  # Im A
        self.output = nn.Parameter(torch.empty(2 * n_pairs))  # c: real parts, then imaginary
        self.log_step = nn.Parameter(empty_wide(n_channels))
        self.skip = nn.Parameter(torch.empty(n_channels))  # d
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from S4D-Inv's poles, log-uniform steps and normal output weights."""
        poles = initial_poles(self.state_dim)
        slowest, fastest = math.log(SLOWEST_STEP), math.log(FASTEST_STEP)
        with torch.no_grad():
            self.log_decay.copy_((-poles.real).log().repeat(self.n_channels))
            self.frequency.copy_(poles.imag.repeat(self.n_channels))
        nn.init.normal_(self.output, std=math.sqrt(0.5))  # |c|^2 has mean 1
        nn.init.uniform_(self.log_step, slowest, fastest)
        nn.init.normal_(self.skip)

    def discrete(self) -> tuple[Complex[Tensor, "D half"], Complex[Tensor, "D half"]]:
        r"""Return the sampled system of every channel, $\ln \bar A$ and $w = c \odot \bar b$."""
        shape = (self.n_channels, self.state_dim // 2)
        decay, frequency = wide(self.log_decay).exp(), wide(self.frequency)
        poles = torch.complex(-decay, frequency).view(shape)
        log_factors, gains = discretize(poles, wide(self.log_step).exp())
        real, imaginary = wide(self.output).view(2, *shape)
        return log_factors, torch.complex(real, imaginary) * gains

    def forward(
        self, u: Float[Tensor, "B D T"], state: Tensor | None, *, keeps_state: bool
    ) -> tuple[Float[Tensor, "B D T"], Tensor | None]:
        """Map each channel's signal by the cheaper form; the last state comes if it is wanted."""
        with torch.autocast(u.device.type, enabled=False):  # powers need every digit
            log_factors, weights = self.discrete()
            if not keeps_state:
                kernel = ssm_kernel(log_factors, weights, u.shape[-1])
                direct = F.pad(wide(self.skip).unsqueeze(-1), (0, kernel.shape[-1] - 1))
                return causal_convolution(u, kernel + direct), None
            form = ssm_recurrence if u.shape[-1] == 1 else ssm_convolution
            y, last = form(wide(u), log_factors, weights, state)
            return (y + wide(self.skip).unsqueeze(-1) * u).to(u.dtype), last


class S4(RecurrentMixer):
    r"""A diagonal linear state space in each channel, then a gated mix of the channels.

    $z = \mathrm{GeLU}(\mathrm{SSM}(x))$, $y = (W_1 z) \odot \sigma(W_2 z)$

    Each channel is filtered by itself, with a filter that does not depend on the text: the gate and
    the feed-forward layer are all that looks at the content.

    Args:
        config: The model's configuration; `state_dim` is N.

    References:
        Gu, Goel and Re (2022), S4, section 3.4; Gu et al. (2022), S4D, section 4.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.ssm = DiagonalSSM(config.d_model, config.state_dim)
        self.out = nn.Linear(config.d_model, 2 * config.d_model, bias=config.bias)
        self.reset_parameters()

    @property
    @override
    def stacked_rows(self) -> dict[str, tuple[int, ...]]:
        return {"out.weight": (self.config.d_model,) * 2}

    @override
    def reset_parameters(self) -> None:
        self.ssm.reset_parameters()
        self.reset_linear(self.out, into_residual=True)

    @override
    def mix(
        self, x: Float[Tensor, "B T D"], state: State, context: Context | None, *, keeps_state: bool
    ) -> tuple[Float[Tensor, "B T D"], State]:
        z, last = self.ssm(x.mT, state.get("ssm"), keeps_state=keeps_state)
        return F.glu(self.out(F.gelu(z.mT)), dim=-1), {} if last is None else {"ssm": last}
