"""What stays in float32 in a model of 16 bits: positions and exponents, by whatever way it came."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture import Attention, Transformer
from llmlib.architecture.exact import KeepsFloat32
from llmlib.architecture.positions.alibi import alibi_bias, alibi_slopes
from llmlib.architecture.positions.rope_scaling import rope_table
from llmlib.architecture.recurrent.retnet import Retention
from tests.architecture.designs import DESIGNS, VOCAB, decoder

each = pytest.mark.parametrize("design", DESIGNS)
halves = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def logits(model: nn.Module, length: int = 41) -> Tensor:
    with torch.no_grad():
        return model(torch.arange(2 * length).view(2, length) * 7 % VOCAB)


def exact_names(model: Transformer) -> set[str]:
    """Names of the parameters that stay."""
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, KeepsFloat32)
        for name in module.exact
    }


@each
@halves
def test_a_change_of_type_rounds_weights_and_nothing_else(design, dtype):
    model = decoder(DESIGNS[design])
    narrow = copy.deepcopy(model).to(dtype)
    kept = exact_names(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            assert narrow.get_parameter(name).dtype == (torch.float32 if name in kept else dtype)
            if name not in kept:
                parameter.copy_(parameter.to(dtype))
    assert torch.equal(logits(narrow.float()), logits(model))


def half(model: Transformer) -> Transformer:
    return model.half().float()


def other_default_type(model: Transformer) -> Transformer:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        return Transformer(model.config).float()
    finally:
        torch.set_default_dtype(before)


def from_meta(model: Transformer) -> Transformer:
    with torch.device("meta"):
        empty = Transformer(model.config)
    return empty.to_empty(device="cpu")


WAYS: dict[str, Callable[[Transformer], Transformer]] = {
    "half": half,
    "bfloat16": lambda model: model.bfloat16().float(),
    "to": lambda model: model.to(torch.bfloat16).to("cpu", torch.float32),
    "copied": lambda model: copy.deepcopy(model.bfloat16()).float(),
    "other default type": other_default_type,
    "from the meta device": from_meta,
}


@each
@pytest.mark.parametrize("way", WAYS)
def test_a_model_with_its_weights_back_is_the_same(design, way):
    model = decoder(DESIGNS[design])
    expected, state = logits(model), copy.deepcopy(model.state_dict())
    changed = WAYS[way](model).eval()
    changed.load_state_dict(state)
    assert torch.equal(logits(changed), expected)


@each
def test_weights_can_be_assigned_to_a_model_without_memory(design):
    model = decoder(DESIGNS[design])
    with torch.device("meta"):
        empty = Transformer(model.config).eval()
    empty.load_state_dict(model.state_dict(), assign=True)
    assert torch.equal(logits(empty), logits(model))


@each
def test_nothing_that_follows_from_the_configuration_is_a_buffer(design):
    assert [name for name, _ in decoder(DESIGNS[design]).named_buffers()] == []


@pytest.mark.slow
def test_a_compiled_model_of_16_bits_has_the_eager_ones_positions():
    """In another process: here a type checker stands at every call."""
    run = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    differences = json.loads(run.stdout)
    assert len(differences) == 6 and max(differences.values()) < 1e-4


COMPILED = """
import json
import torch
from tests.architecture.designs import DESIGNS, decoder

differences, ids = {}, torch.arange(80).view(2, 40) % 53
for name in ("rope", "yarn", "dynamic", "alibi", "retnet", "hyena"):
    model = decoder(DESIGNS[name]).bfloat16().float()
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager")
        differences[name] = (compiled(ids) - model(ids)).abs().amax().item()
print(json.dumps(differences))
"""


@each
@pytest.mark.parametrize("way", ["weights", "autocast"])
def test_16_bits_err_no_more_at_the_end_of_a_long_text_than_at_its_beginning(design, way):
    fields = DESIGNS[design]
    if "rope_original_len" in fields:
        fields = {**fields, "rope_original_len": 100}
    model = decoder(fields, max_seq_len=400)
    expected = logits(model, 400)
    if way == "weights":
        found = logits(model.bfloat16(), 400)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            found = logits(model, 400)
    error = (found.float() - expected).abs().mean((0, 2)) / expected.std()
    assert error[-100:].mean() < 1.5 * error[:100].mean() + 0.01


def test_positions_have_an_angle_each():
    """Of the last 1,024 of 2,048 positions bfloat16 could tell 128 apart."""
    model = decoder({}, max_seq_len=2048)
    tokens = torch.zeros(1, 2048, dtype=torch.long)
    expected = model.context(tokens).angles
    found = model.bfloat16().context(tokens).angles
    assert expected is not None and found is not None
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    cos, sin = (x[0, 1024:, 0].tolist() for x in found)
    assert len(set(zip(cos, sin, strict=True))) == 1024


@each
@halves
def test_a_model_of_16_bits_trains(design, dtype):
    model = decoder(DESIGNS[design], init_std=0.02).to(dtype).train()
    model(torch.arange(80).view(2, 40) % VOCAB).float().logsumexp(-1).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == parameter.dtype and parameter.grad.isfinite().all(), name


def test_gradients_of_what_stays_follow_it():
    model = decoder(DESIGNS["mamba"])
    model(torch.tensor([[3, 1, 4]])).sum().backward()
    for name, parameter in model.bfloat16().named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == parameter.dtype, name


def test_types_of_64_bits_are_followed():
    model = decoder(DESIGNS["s4"]).double()
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert decoder({}).double().frequencies.dtype == torch.float64


def test_initial_exponents_do_not_depend_on_the_default_type():
    for design in ("mamba", "rwkv", "s4"):
        model = decoder(DESIGNS[design])
        other = other_default_type(model)
        for name in exact_names(model):
            if not name.endswith("log_step"):  # which is drawn
                assert torch.equal(other.get_parameter(name), model.get_parameter(name)), name


@halves
def test_far_keys_keep_their_distances_under_alibi(dtype):
    """Steps of 1/256 at a bias of -4 are below bfloat16's digits: it would see plateaus."""
    model = decoder({"position": "alibi", "n_heads": 4, "d_model": 8, "n_layers": 1, "d_ff": 8})
    attention = model.to(dtype).blocks[0].mixer
    assert isinstance(attention, Attention)
    positions = torch.arange(1100)[None]
    bias = alibi_bias(alibi_slopes(4), positions[:, -1:], positions)
    queries, keys = (torch.zeros(1, 4, n, 2, dtype=dtype) for n in (1, 1100))
    values = torch.zeros(1, 4, 1100, 2)
    values[:, :, 97, 0], values[:, :, 100, 0] = 1000.0, -1000.0
    mixed = attention._mix_biased(queries, keys, values.to(dtype), bias, 0.0).float()
    expected = F.scaled_dot_product_attention(
        queries.double(), keys.double(), values.double(), attn_mask=bias.double()
    ).float()
    torch.testing.assert_close(mixed[:, :, :, 0], expected[:, :, :, 0], atol=1e-6, rtol=0.01)
    assert expected[0, 3, 0, 0] < -5e-4


@pytest.mark.parametrize("n_heads", [1, 8, 21, 64, 200])
def test_any_number_of_retention_heads_has_finite_outputs(n_heads):
    model = decoder({"mixer": "retnet", "n_heads": n_heads, "d_model": 2 * n_heads})
    found = logits(model)
    assert found.isfinite().all()
    assert logits(model.bfloat16()).isfinite().all()
    retention = model.blocks[0].mixer
    assert isinstance(retention, Retention)
    positions = torch.tensor([[0, 1, 2, 7, 1000]])
    shares = torch.exp2(-5 - torch.arange(n_heads, dtype=torch.float64))
    sums = torch.stack(
        [
            torch.exp(torch.log1p(-shares)[:, None] * torch.arange(t + 1)).sum(-1)
            for t in positions[0].tolist()
        ]
    )  # [T, H]
    expected = (1 / (sums * 2)).sqrt()[None, :, :, None]
    torch.testing.assert_close(
        retention._query_scale(positions).double(), expected, atol=0, rtol=1e-6
    )


def test_a_table_of_frequencies_is_made_where_it_is_asked_for():
    for design in ("rope", "linear", "ntk", "yarn", "basis", "dynamic"):
        config = decoder(DESIGNS[design]).config
        lengths = torch.tensor([[3], [40]])
        found, scale = rope_table(config, lengths, torch.device("meta"))
        there, same = rope_table(config, lengths)
        assert (found.shape, found.device.type, scale) == (there.shape, "meta", same)
        assert there.dtype == torch.float32
