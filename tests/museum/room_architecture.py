"""Models: precision, rows that must not meet, and tensors that outlive what they were made of."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Layout
from llmlib.architecture.kernels.fused import swiglu
from llmlib.architecture.positions.rope import rope_angles, rope_frequencies
from llmlib.architecture.positions.rope_scaling import rope_table
from llmlib.architecture.positions.schemes import alibi_bias, alibi_slopes
from llmlib.architecture.recurrent.hyena import ImplicitFilters
from llmlib.architecture.transformer import Transformer
from museum.exhibit import Exhibit

CONFIG = ModelConfig(vocab_size=11, d_model=16, n_layers=1, n_heads=2, max_seq_len=2048)


class Rotary(nn.Module):
    """Cosines of RoPE's angles, from a buffer that changes its type with the weights."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", rope_frequencies(8), persistent=False)

    def forward(self, n_positions: int) -> Tensor:
        positions = torch.arange(n_positions).to(self.frequencies.dtype)
        return (positions[:, None] * self.frequencies).cos()


def cosines_of_a_buffer(n_positions: int, dtype: torch.dtype) -> Tensor:
    return Rotary().to(dtype)(n_positions).float()


def cosines_of_the_decoder(n_positions: int, dtype: torch.dtype) -> Tensor:
    tokens = torch.zeros(1, n_positions, dtype=torch.long)
    angles = Transformer(CONFIG).to(dtype).context(tokens).angles
    assert angles is not None
    return angles[0][0]


def cosines_are_right_in_float32(cosines: Callable[[int, torch.dtype], Tensor]) -> None:
    expected = rope_angles(torch.arange(2048), rope_frequencies(8))[0]
    assert torch.allclose(cosines(2048, torch.float32), expected)
    assert torch.allclose(cosines(3, torch.bfloat16), expected[:3], atol=0.01)


def cosines_do_not_follow_the_weights_type(cosines: Callable[[int, torch.dtype], Tensor]) -> None:
    exact = cosines(2048, torch.float32)
    assert (cosines(2048, torch.bfloat16) - exact).abs().max() < 0.01


def bias_of_rounded_slopes(n_heads: int, n_keys: int) -> Tensor:
    slopes = alibi_slopes(n_heads).bfloat16()
    return -slopes[:, None] * torch.arange(n_keys - 1, -1, -1).bfloat16()


def bias_of_exact_slopes(n_heads: int, n_keys: int) -> Tensor:
    keys = torch.arange(n_keys)[None]
    return alibi_bias(alibi_slopes(n_heads), keys[:, -1:], keys)[0, :, 0]


def bias_falls(bias: Callable[[int, int], Tensor]) -> None:
    lines = bias(12, 200)
    assert lines.shape == (12, 200) and (lines[:, -1] == 0).all()
    assert (lines.diff(dim=1) >= 0).all()


def bias_tells_far_keys_apart(bias: Callable[[int, int], Tensor]) -> None:
    lines = bias(12, 1500)
    assert (lines.diff(dim=1) > 0).all()


DYNAMIC = CONFIG.replace(rope_scaling="dynamic", rope_factor=2.0, rope_original_len=8)


def angles_of_the_longest_row(lengths: list[int]) -> list[Tensor]:
    frequencies, _ = rope_table(DYNAMIC, max(lengths))
    return [rope_angles(torch.arange(n), frequencies)[0] for n in lengths]


def angles_of_each_row(lengths: list[int]) -> list[Tensor]:
    width = max(lengths)
    padding = torch.tensor([width - n for n in lengths])
    tokens = torch.zeros(len(lengths), width, dtype=torch.long)
    angles = Transformer(DYNAMIC).context(tokens, layout=Layout(padding)).angles
    assert angles is not None
    return [cos[width - n :] for cos, n in zip(angles[0], lengths, strict=True)]


def a_text_alone_is_stretched(angles: Callable[[list[int]], list[Tensor]]) -> None:
    for n in (5, 20):
        expected = rope_angles(torch.arange(n), rope_table(DYNAMIC, n)[0])[0]
        assert torch.allclose(angles([n])[0], expected)
        assert torch.allclose(angles([n, n])[1], expected)


def a_text_is_stretched_by_its_own_length(angles: Callable[[list[int]], list[Tensor]]) -> None:
    together = angles([5, 20])
    assert torch.allclose(together[0], angles([5])[0])
    assert torch.allclose(together[1], angles([20])[0])


def filters_kept_by_version(filters: ImplicitFilters) -> Callable[[], Tensor]:
    kept: dict[Any, Tensor] = {}

    def read() -> Tensor:
        key = tuple((p.data_ptr(), p.dtype, p._version) for p in filters.parameters())
        if key not in kept:
            kept.clear()
            kept[key] = copy.deepcopy(filters)(8)
        return kept[key]

    return read


def filters_kept_by_value(filters: ImplicitFilters) -> Callable[[], Tensor]:
    return lambda: filters(8)


@torch.no_grad()
def an_optimizers_step_is_seen(reader: Callable[[ImplicitFilters], Callable[[], Tensor]]) -> None:
    filters = ImplicitFilters(1, 2, 8)
    read = reader(filters)
    before = read()
    assert torch.equal(read(), before)
    filters.skip.add_(1)
    assert torch.allclose(read()[..., 0], before[..., 0] + 1)


@torch.no_grad()
def new_weights_by_data_are_seen(
    reader: Callable[[ImplicitFilters], Callable[[], Tensor]],
) -> None:
    filters = ImplicitFilters(1, 2, 8)
    read = reader(filters)
    before = read()
    filters.skip.data.copy_(filters.skip + 1)
    assert torch.allclose(read()[..., 0], before[..., 0] + 1)


class _ThriftySwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.data.chunk(2, dim=-1)  # as a kernel writes, unseen by autograd
        sigmoid = gate.sigmoid()
        grad_up = grad * gate * sigmoid
        gate.copy_(grad * up * sigmoid * (1 + gate * (1 - sigmoid)))  # the memory is there already
        up.copy_(grad_up)
        return gate_up


def thrifty_swiglu(gate_up: Tensor) -> Tensor:
    return _ThriftySwiGLU.apply(gate_up)  # pyright: ignore[reportReturnType]


def plain_swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    function(leaf).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def gradient_behind_a_product_is_right(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-2, 2, 12).view(2, 6)
    for before in (lambda y: y * 3, lambda y: y @ torch.eye(6)):
        ours = gradient(lambda y, before=before: function(before(y)), x)
        expected = gradient(lambda y, before=before: plain_swiglu(before(y)), x)
        assert torch.allclose(ours, expected, atol=1e-6)


def gradient_behind_an_exponential_is_right(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-2, 2, 12).view(2, 6)  # exp saves its output, which swiglu reads
    ours = gradient(lambda y: function(y.exp()), x)
    assert torch.allclose(ours, gradient(lambda y: plain_swiglu(y.exp()), x), atol=1e-6)


EXHIBITS = [
    Exhibit(
        name="Positions in the weights' type",
        threads=(
            "huggingface/transformers#29285",
            "huggingface/transformers#29496",
            "NVIDIA/Megatron-LM#535",
            "EleutherAI/gpt-neox#1016",
        ),
        fault="RoPE's frequencies are a buffer: `model.to(torch.bfloat16)` rounds them, and the "
        "positions that are multiplied by them. From 256 on bfloat16 skips whole numbers.",
        looks="Short prompts answer as before, the loss is a little higher, and float32 tests "
        "pass. At position 2,000 eight neighbours stand in one place.",
        faulty=cosines_of_a_buffer,
        sound=cosines_of_the_decoder,
        plausible=cosines_are_right_in_float32,
        check=cosines_do_not_follow_the_weights_type,
    ),
    Exhibit(
        name="Slopes in the weights' type",
        threads=("Dao-AILab/flash-attention#846",),
        fault="ALiBi's slopes are a buffer too, rounded with the module. The bias of a far key "
        "has eight bits then, so keys several tokens apart get the same one.",
        looks="Every line falls, near keys are right, and what far keys weigh is small anyway.",
        faulty=bias_of_rounded_slopes,
        sound=bias_of_exact_slopes,
        plausible=bias_falls,
        check=bias_tells_far_keys_apart,
    ),
    Exhibit(
        name="One base for the whole batch",
        threads=("QwenLM/Qwen#401",),
        fault="Dynamic scaling takes RoPE's base from the length of the text, and the length from "
        "the shape of the batch: short rows are turned by the base of the longest.",
        looks="Every text is right when it is tried alone. In a batch its answer changes a little "
        "with its neighbours, as sampling would change it.",
        faulty=angles_of_the_longest_row,
        sound=angles_of_each_row,
        plausible=a_text_alone_is_stretched,
        check=a_text_is_stretched_by_its_own_length,
    ),
    Exhibit(
        name="A cache that trusts the version counter",
        threads=("sgl-project/sglang#30247",),
        fault="A tensor derived from the weights is kept, under their addresses and version "
        "counters. `weight.data.copy_(new)`, as weights are loaded into a running server, changes "
        "neither.",
        looks="Optimizer steps, moves and `load_state_dict` are all seen. After an update through "
        "`.data` the model computes with old and new weights at once.",
        faulty=filters_kept_by_version,
        sound=filters_kept_by_value,
        plausible=an_optimizers_step_is_seen,
        check=new_weights_by_data_are_seen,
    ),
    Exhibit(
        name="A backward pass in the input's memory",
        threads=("linkedin/Liger-Kernel#254",),
        fault="To save memory the gradient is written over the saved input. Another function may "
        "have saved that tensor too, for its own gradient: it reads the wrong numbers.",
        looks="Behind a matrix product, which saves its inputs and not its output, every gradient "
        "is right.",
        faulty=thrifty_swiglu,
        sound=swiglu,
        plausible=gradient_behind_a_product_is_right,
        check=gradient_behind_an_exponential_is_right,
    ),
]
