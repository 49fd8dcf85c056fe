"""Causal convolutions along the tokens: long ones by the FFT, short ones by shifted sums."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.exact import wide


def fft_length(at_least: int) -> int:
    """Return the smallest length of the form 2^a, 3 2^a or 5 2^a that is long enough.

    The FFT of such a length is fast; that of a prime takes several times as long.

    Raises:
        ValueError: When `at_least` is below 1.

    Example:
        >>> [fft_length(n) for n in (1, 7, 9, 33, 1025)]
        [1, 8, 10, 40, 1280]
    """
    if at_least < 1:
        raise ValueError(f"at_least={at_least} samples: there must be one or more")
    lengths = (odd << max(0, (-(-at_least // odd) - 1).bit_length()) for odd in (1, 3, 5))
    return min(lengths)


def causal_convolution(
    inputs: Float[Tensor, "*batch T"], kernel: Float[Tensor, "*channels taps"]
) -> Float[Tensor, "*batch T"]:
    r"""Convolve along the last axis, so that no output depends on a later input.

    $y_t = \sum_{s=0}^{t} h_s\, x_{t-s}$

    Both are padded with zeros to at least twice the length, because the FFT's own convolution goes
    round in a circle; the product of their transforms is then the transform of the result. That
    takes $O(T \log T)$ steps where the sum takes $O(T^2)$.

    Args:
        kernel: Taps, h_0 first, for all signals or for the last axes of the batch; taps beyond the
            length of the signals do not count.

    Example:
        >>> y = causal_convolution(torch.tensor([1.0, 2.0, 0.0]), torch.tensor([1.0, 0.5]))
        >>> [round(value, 4) for value in y.tolist()]
        [1.0, 2.5, 1.0]

    References:
        Cooley and Tukey (1965), An Algorithm for the Machine Calculation of Complex Fourier Series.
    """
    length = inputs.shape[-1]
    signal, taps = wide(inputs), wide(kernel[..., :length])
    n = fft_length(length + taps.shape[-1] - 1)
    product = torch.fft.rfft(signal, n=n) * torch.fft.rfft(taps, n=n)
    return torch.fft.irfft(product, n=n)[..., :length].to(inputs.dtype)


def short_convolution(
    x: Float[Tensor, "B D T"],
    taps: Float[Tensor, "D taps"],
    history: Float[Tensor, "B D past"] | None = None,
) -> tuple[Float[Tensor, "B D T"], Float[Tensor, "B D past"]]:
    r"""Convolve each channel with a few taps, causally: a sum of shifted copies.

    $y_t = \sum_{s=0}^{\mathrm{taps}-1} h_s\, x_{t-s}$

    Args:
        taps: For each channel, the weight of the token itself first, then of the ones before.
        history: The `taps - 1` tokens before the new ones, zeros where there were none. Default:
            none at all.

    Returns:
        The convolved tokens, and the history for the tokens that come next.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0]]])
        >>> y, history = short_convolution(x, torch.tensor([[1.0, 0.5]]))
        >>> y.flatten().tolist(), history.flatten().tolist()
        ([1.0, 2.5], [2.0])
    """
    n_tokens, past = x.shape[2], taps.shape[1] - 1
    padded = F.pad(x, (past, 0)) if history is None else torch.cat((history, x), dim=2)
    y = F.conv1d(padded, taps.flip(-1).unsqueeze(1), groups=x.shape[1])  # [B, D, T]
    # A copy: a view would keep the whole text in memory as long as the history lives.
    return y, padded[:, :, n_tokens:].clone()
