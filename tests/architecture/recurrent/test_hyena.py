"""Hyena: the FFT equals the direct convolution, decoding equals training, its memory grows."""

import pytest
import torch

from llmlib.architecture.caches.state_cache import StateCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.recurrent.hyena import (
    Hyena,
    ImplicitFilters,
    decay_window,
    tap_features,
)
from tests.architecture.recurrent.comparisons import (
    assert_causal,
    assert_every_parameter_learns,
    exactly_equal,
)

B, D, T, TAPS = 2, 13, 41, 5
CONFIG = ModelConfig(
    vocab_size=2, d_model=D, n_layers=3, n_heads=1, max_seq_len=43, conv_kernel=TAPS,
    position="none",
)  # fmt: skip


def make(order: int) -> Hyena:
    torch.manual_seed(order)
    layer = Hyena(CONFIG, order=order).double().eval()
    with torch.no_grad():  # larger weights than at the start, so that mistakes show
        layer.streams.weight.mul_(20)
        layer.out.weight.mul_(20)
    return layer


@pytest.fixture(params=[1, 2, 3], ids=lambda order: f"order{order}")
def layer(request) -> Hyena:
    return make(request.param)


def direct(kernel: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Convolve by a matrix: row t of channel d holds the taps that reach back from t."""
    n = x.shape[-1]
    matrix = torch.zeros(*kernel.shape[:-1], n, n, dtype=x.dtype)
    for t in range(n):
        for s in range(t + 1):
            if t - s < kernel.shape[-1]:
                matrix[..., t, s] = kernel[..., t - s]
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)


@pytest.mark.covers("arch.hyena")
def test_the_layer_equals_direct_convolutions(layer):
    x = torch.randn(B, T, D, dtype=torch.float64)
    streams = direct(layer.short.view(-1, TAPS), (x @ layer.streams.weight.mT).mT)
    z, *gates = streams.chunk(layer.order + 1, dim=1)
    filters = layer.filters(T)
    assert filters.shape == (layer.order, D, T)
    for gate, kernel in zip(gates, filters, strict=True):
        z = gate * direct(kernel, z)
    exactly_equal(layer(x), z.mT @ layer.out.weight.mT, tolerance=1e-8)


@pytest.mark.covers("arch.hyena")
def test_the_layer_is_causal(layer):
    x = torch.randn(B, T, D, dtype=torch.float64)
    assert_causal(layer, x, tolerance=1e-8)


@pytest.mark.covers("arch.hyena")
@pytest.mark.parametrize("pieces", [(T,), (1,) * T, (7, 1, 1, 11, 21)])
def test_decoding_equals_training(layer, pieces):
    x = torch.randn(B, T, D, dtype=torch.float64)
    cache = StateCache.allocate(2)
    with torch.no_grad():
        y = torch.cat([layer(piece, None, cache, 1) for piece in x.split(pieces, dim=1)], dim=1)
    exactly_equal(y, layer(x), tolerance=1e-8)


def test_what_decoding_keeps_grows_with_the_text():
    layer, cache = Hyena(CONFIG.replace(max_seq_len=211)).double(), StateCache.allocate(1)
    sizes = []
    with torch.no_grad():
        for _ in range(211):
            layer(torch.randn(B, 1, D, dtype=torch.float64), None, cache, 0)
            sizes.append(cache.nbytes)
    fixed = B * 8 * (3 * D * (TAPS - 1) + 1)
    assert sizes[0] == fixed + B * 8 * 2 * D  # the inputs of two convolutions
    rooms = [(size - fixed) // (B * 8 * 2 * D) for size in sizes]
    assert sorted(set(rooms)) == [1, 65, 129, 193, 257]  # in blocks of 64 tokens
    assert all(n <= room < n + 64 for n, room in enumerate(rooms, 1))


def test_filters_depend_on_the_tap_and_not_on_the_length():
    filters = ImplicitFilters(2, D, 43).double()
    torch.testing.assert_close(filters(11), filters(43)[:, :, :11])
    with pytest.raises(ValueError, match="max_seq_len=43"):
        filters(44)
    with pytest.raises(ValueError, match="one long convolution or more"):
        Hyena(CONFIG, order=0)


def test_kept_filters_follow_the_parameters():
    filters = ImplicitFilters(2, D, 43)
    with torch.no_grad():
        first = filters(11)
        assert filters(7).untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        filters.skip.add_(1)
        second = filters(11)
    torch.testing.assert_close(second[:, :, 0], first[:, :, 0] + 1)
    torch.testing.assert_close(second[:, :, 1:], first[:, :, 1:])
    with torch.no_grad():
        # Two sines of ten times their argument multiply float32's rounding by a hundred.
        torch.testing.assert_close(filters.double()(11), second.double(), atol=1e-4, rtol=1e-4)


def test_filters_start_with_unit_energy_and_fade():
    torch.manual_seed(7)
    filters = ImplicitFilters(3, 64, 1009)
    with torch.no_grad():
        taps = filters(1009)[:, :, 1:]  # without the direct path
    assert 0.6 < taps.square().sum(-1).mean() < 1.6
    window = decay_window(1009, 1009, 64)
    assert abs(window[-1, round(0.3 * 1009)] - 0.01) < 1e-3  # the fastest channel at 0.3 L
    assert abs(window[0, -1] - 0.01 ** (1 / 1.5)) < 1e-3
    assert tap_features(1009, 1009).shape == (1009, 17)


def test_every_parameter_learns(layer):
    assert_every_parameter_learns(layer.train(), layer(torch.randn(B, T, D, dtype=torch.float64)))


def test_half_precision_convolves_in_float32():
    torch.manual_seed(4)
    layer = Hyena(CONFIG)
    x = torch.randn(B, T, D)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(y.float(), layer(x), atol=1e-4, rtol=0.1)
