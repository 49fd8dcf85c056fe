"""Models: precision, rows that must not meet, stale tensors, and what loaders passed over."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from llmlib.architecture.attention.multihead import scaled_dot_product_attention
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Layout
from llmlib.architecture.experts.routing import route
from llmlib.architecture.kernels.fused import swiglu
from llmlib.architecture.positions.alibi import alibi_bias, alibi_slopes
from llmlib.architecture.positions.rope import rope_angles, rope_frequencies
from llmlib.architecture.positions.rope_scaling import rope_table
from llmlib.architecture.pretrained.configs import config_from_folder
from llmlib.architecture.pretrained.loading import load_pretrained
from llmlib.architecture.pretrained.saving import save_pretrained
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


# What a loader reads of a published model. Each implementation returns its configuration.

Read = Callable[[dict[str, Any]], ModelConfig]
LLAMA: dict[str, Any] = dict(
    model_type="llama", vocab_size=29, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
    intermediate_size=37, max_position_embeddings=64, rope_theta=503.0,
)  # fmt: skip
QWEN2 = LLAMA | dict(model_type="qwen2", num_key_value_heads=3, use_sliding_window=True)


def _sizes(content: dict[str, Any]) -> dict[str, Any]:
    return dict(
        vocab_size=content["vocab_size"], d_model=content["hidden_size"],
        n_layers=content["num_hidden_layers"], n_heads=content["num_attention_heads"],
        d_ff=content["intermediate_size"], max_seq_len=content["max_position_embeddings"],
        rope_theta=content["rope_theta"],
    )  # fmt: skip


def _sizes_alone(content: dict[str, Any]) -> ModelConfig:
    return ModelConfig(**_sizes(content))


def _plausible_sizes(read: Read) -> None:
    config = read(LLAMA)
    assert (config.d_model, config.n_layers, config.rope_theta) == (24, 2, 503.0)
    assert read(LLAMA | {"rope_scaling": None}).d_ff == 37


def _rotates_as_it_was_trained(read: Read) -> None:
    scaled = read(LLAMA | {"rope_scaling": {"type": "linear", "factor": 4.0}})
    plain, slower = rope_table(read(LLAMA), 64)[0], rope_table(scaled, 64)[0]
    assert torch.equal(slower, plain / 4)
    try:
        other = read(LLAMA | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})
    except ValueError:
        return
    assert not torch.equal(rope_table(other, 64)[0], plain), "neither used nor refused"


def _one_window_for_all_layers(content: dict[str, Any]) -> ModelConfig:
    window = content["sliding_window"] if content["use_sliding_window"] else None
    attention: dict[str, Any] = {"attention": "window", "window": window} if window else {}
    return ModelConfig(**_sizes(content), qkv_bias=True, **attention)


def _plausible_windows(read: Read) -> None:
    assert read(QWEN2 | dict(sliding_window=5, max_window_layers=0)).window == 5
    off = dict(sliding_window=5, max_window_layers=0, use_sliding_window=False)
    assert read(QWEN2 | off).attention == "full"


def _windows_where_the_layers_have_them(read: Read) -> None:
    assert read(QWEN2 | dict(sliding_window=5, max_window_layers=2)).attention == "full"
    try:
        config = read(QWEN2 | dict(sliding_window=5, max_window_layers=1))
    except ValueError:
        return
    assert [config.is_local(layer) for layer in range(2)] == [False, True]


# What comes out of a folder. Each implementation loads a model, or saves it and loads it again.

FOLDER = "model.safetensors"


def _small(**changes: Any) -> Transformer:
    return Transformer(config_from_folder(LLAMA | {"tie_word_embeddings": True}).replace(**changes))


def _with_head(folder: Path, model: Transformer, head: Tensor) -> None:
    """Save a tied model as some programs do, its output matrix written out."""
    save_pretrained(model, folder)
    tensors = {**load_file(folder / FOLDER), "lm_head.weight": head.detach().clone()}
    save_file(tensors, folder / FOLDER)


def _ties_in_any_case(folder: Path) -> Transformer:
    tensors = load_file(folder / FOLDER)
    save_file({n: t for n, t in tensors.items() if n != "lm_head.weight"}, folder / FOLDER)
    return load_pretrained(folder)


def _plausible_ties(load: Callable[[Path], Transformer]) -> None:
    with TemporaryDirectory() as folder:
        model = _small()
        _with_head(Path(folder), model, model.embedding.weight)
        assert torch.equal(load(Path(folder)).output_weight, model.embedding.weight)


def _no_matrix_is_dropped(load: Callable[[Path], Transformer]) -> None:
    with TemporaryDirectory() as folder:
        head = torch.randn(29, 24)
        _with_head(Path(folder), _small(), head)
        try:
            loaded = load(Path(folder))
        except ValueError as error:
            assert "lm_head.weight" in str(error)
            return
        assert torch.equal(loaded.output_weight, head)


def _leaves_the_index(model: Transformer, folder: Path) -> Tensor:
    name, index = "model.embed_tokens.weight", folder / "model.safetensors.index.json"
    save_file({name: model.embedding.weight.detach()}, folder / FOLDER)
    files = json.loads(index.read_text())["weight_map"] if index.exists() else {}
    return load_file(folder / files.get(name, FOLDER))[name]


def _saved_and_loaded(model: Transformer, folder: Path) -> Tensor:
    save_pretrained(model, folder)
    return load_pretrained(folder).embedding.weight.detach()


def _plausible_again(again: Callable[[Transformer, Path], Tensor]) -> None:
    with TemporaryDirectory() as folder:
        for model in (_small(), _small()):
            assert torch.equal(again(model, Path(folder)), model.embedding.weight)


def _what_was_saved_last(again: Callable[[Transformer, Path], Tensor]) -> None:
    with TemporaryDirectory() as name:
        folder, part = Path(name), "model-00001-of-00001.safetensors"
        save_pretrained(_small(), folder)
        files = dict.fromkeys(load_file(folder / FOLDER), part)
        (folder / FOLDER).rename(folder / part)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
        model = _small()
        assert torch.equal(again(model, folder), model.embedding.weight)


# The weights of the chosen experts' outputs, from scores and their number.

Gates = Callable[[Tensor, int], Tensor]


def _shares_of_the_chosen(logits: Tensor, k: int) -> Tensor:
    chosen = logits.softmax(dim=-1).topk(k, dim=-1).values
    return chosen / chosen.sum(dim=-1, keepdim=True)


def _routed(logits: Tensor, k: int) -> Tensor:
    return route(logits, k).gates


def _plausible_gates(gates: Gates) -> None:
    found = gates(torch.tensor([[0.0, math.log(3), math.log(6)]]), 2)
    torch.testing.assert_close(found, torch.tensor([[2 / 3, 1 / 3]]))


def _the_text_teaches_the_router(gates: Gates) -> None:
    for k in (1, 2):
        logits = torch.tensor([[0.0, 1.0, 2.0]], requires_grad=True)
        gates(logits, k)[0, 0].backward()
        assert logits.grad is not None and logits.grad.abs().max() > 1e-3


EXHIBITS += [
    Exhibit(
        name="A RoPE that forgets how it was stretched",
        threads=("ggml-org/llama.cpp#2772", "ggml-org/llama.cpp#8676"),
        fault="A converter reads the sizes and the base of RoPE, and not the setting that says how "
        "positions were stretched when the model was trained on longer texts.",
        looks="All tensors fit. The text begins well and falls apart, sooner or later by the kind "
        "of scaling.",
        faulty=_sizes_alone,
        sound=config_from_folder,
        plausible=_plausible_sizes,
        check=_rotates_as_it_was_trained,
    ),
    Exhibit(
        name="A window for layers that have none",
        threads=("huggingface/transformers#35896", "huggingface/transformers#36162"),
        fault="A sliding window is given to every layer, although the configuration says from "
        "which layer on it counts.",
        looks="Equal up to the window's length: every short test passes.",
        faulty=_one_window_for_all_layers,
        sound=config_from_folder,
        plausible=_plausible_windows,
        check=_windows_where_the_layers_have_them,
    ),
    Exhibit(
        name="Two matrices tied by force",
        threads=("huggingface/transformers#42612",),
        fault="The configuration says that embedding and output matrix are one, the file holds two "
        "that differ, and the second is dropped.",
        looks="No tensor is missing and none is left over; the model answers, in other words.",
        faulty=_ties_in_any_case,
        sound=load_pretrained,
        plausible=_plausible_ties,
        check=_no_matrix_is_dropped,
    ),
    Exhibit(
        name="The index of the model before",
        threads=("huggingface/diffusers#14719", "huggingface/diffusers#14769"),
        fault="One file is saved into a folder that held a model in several; their index stays, "
        "and who reads looks at the index first.",
        looks="The new file is there, with the right size and date. What is loaded is the old one.",
        faulty=_leaves_the_index,
        sound=_saved_and_loaded,
        plausible=_plausible_again,
        check=_what_was_saved_last,
    ),
    Exhibit(
        name="The gate of one expert",
        threads=("jingyaogong/minimind#858", "jingyaogong/minimind#859"),
        fault="The chosen experts' weights are made to sum to one. Where one expert is chosen its "
        "weight is then the constant 1, and the text's loss teaches the router nothing.",
        looks="Loads are even, for the balance loss is all that the router learns; the model is no "
        "better than a dense one of an expert's size.",
        faulty=_shares_of_the_chosen,
        sound=_routed,
        plausible=_plausible_gates,
        check=_the_text_teaches_the_router,
    ),
]


# Scores below the mask's number


def masked_by_a_number(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    scores = queries @ keys.mT / math.sqrt(queries.shape[-1])
    return scores.masked_fill(~mask, -1e5).softmax(dim=-1) @ values


_SEEN = torch.ones(5, 5, dtype=torch.bool).tril()


def ordinary_scores_are_masked(attend: Callable[..., Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = torch.randn(3, 5, 8, generator=generator)
    later = values.clone()
    later[1:] = 0
    assert torch.equal(attend(queries, keys, values, _SEEN)[0], values[0])
    assert torch.equal(attend(queries, keys, later, _SEEN)[0], values[0])


def low_scores_are_masked(attend: Callable[..., Tensor]) -> None:
    queries, keys = torch.full((5, 4), -1000.0), torch.full((5, 4), 60.0)  # scores of -120,000
    values = torch.arange(5.0)[:, None]
    assert attend(queries, keys, values, _SEEN)[0].item() == 0, "the first token sees later ones"


EXHIBITS += [
    Exhibit(
        name="Scores below the mask's number",
        threads=(
            "TransformerLensOrg/TransformerLens#318",
            "TransformerLensOrg/TransformerLens#319",
        ),
        fault="A masked score becomes -100,000 and not minus infinity.",
        looks="Nearly all scores of nearly all models are far above it. Where a head's scores lie "
        "below, its weight goes to the tokens that it must not see.",
        faulty=masked_by_a_number,
        sound=scaled_dot_product_attention,
        plausible=ordinary_scores_are_masked,
        check=low_scores_are_masked,
    ),
]
