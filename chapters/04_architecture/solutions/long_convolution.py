import torch


def long_convolution(x, kernel):
    """Multiply the transforms of both, padded so that only zeros go round the circle."""
    n_tokens = x.shape[-1]
    n = 2 * n_tokens
    product = torch.fft.rfft(x, n=n) * torch.fft.rfft(kernel, n=n)
    return torch.fft.irfft(product, n=n)[..., :n_tokens]
