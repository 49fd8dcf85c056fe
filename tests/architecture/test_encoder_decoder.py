"""The encoder-decoder: who sees whom, padding, cached decoding, positions, sizes, saving."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.encoder_decoder import EncoderDecoder, encoder_decoder_flops

VOCAB = 101


def config(**changes) -> ModelConfig:
    sizes = {"vocab_size": VOCAB, "d_model": 52, "n_layers": 3, "max_seq_len": 37, "d_ff": 67}
    return ModelConfig(**{**sizes, "n_heads": 2, "position": "t5", **changes})


VARIANTS = {
    "t5": (config(attention_scale=1.0, activation="relu"), None, 52**-0.5),
    "vaswani": (
        config(norm="layer", norm_placement="post", position="sinusoidal", activation="relu",
               bias=True),
        2, 1.0,
    ),
    "rope-gqa": (config(n_heads=6, head_dim=10, n_kv_heads=3, position="rope"), 5, 1.0),
    "learned": (config(position="learned", tie_embeddings=False, activation="gelu"), 1, 1.0),
    "alibi": (config(position="alibi", n_heads=13, head_dim=4), 2, 1.0),
}  # fmt: skip


def sharpen(model: EncoderDecoder) -> EncoderDecoder:
    """Make the weights large enough for a mistake to show."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return model


@pytest.fixture(params=list(VARIANTS.values()), ids=list(VARIANTS))
def model(request) -> EncoderDecoder:
    torch.manual_seed(1)
    config, n_encoder_layers, logit_scale = request.param
    return sharpen(EncoderDecoder(config, n_encoder_layers, logit_scale=logit_scale).eval())


def tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(VOCAB, (rows, length))


def changed(ids: torch.Tensor, place: int) -> torch.Tensor:
    other = ids.clone()
    other[:, place] = (other[:, place] + 1) % VOCAB
    return other


@torch.no_grad()
def test_the_decoder_is_causal_and_the_encoder_is_not(model):
    source, written = tokens(3, 17), tokens(3, 11)
    logits = model(source, written)
    assert logits.shape == (3, 11, VOCAB)
    after = model(source, changed(written, 6))
    torch.testing.assert_close(after[:, :6], logits[:, :6])
    assert (after[:, 6:] - logits[:, 6:]).abs().amax() > 1e-3
    # A change of the last word read reaches the encoding of the first, and every word written.
    encoded = [model.encoder.hidden(ids) for ids in (source, changed(source, 16))]
    assert (encoded[0] - encoded[1]).abs().amax(dim=(0, 2)).min() > 1e-4
    after = model(changed(source, 16), written)
    assert (after - logits).abs().amax(dim=(0, 2)).min() > 1e-4


@torch.no_grad()
def test_padding_of_the_encoder_changes_nothing(model):
    source, written = tokens(3, 17), tokens(3, 11)
    lengths = torch.tensor([17, 5, 1])
    together = model(source, written, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model(source[row : row + 1, :length], written[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-4)
    assert (model(source, written) - together)[1:].abs().amax() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(1,) * 11, (4, 1, 6)])
def test_cache_equals_no_cache(model, pieces):
    source, written = tokens(3, 17), tokens(3, 11)
    memory = model.encode(source, torch.tensor([17, 9, 13]))
    cache = model.new_cache(3, 11)
    hidden = [model.decode(part, memory, cache=cache) for part in written.split(pieces, dim=1)]
    assert cache.length == 11
    whole = model(source, written, torch.tensor([17, 9, 13]))
    torch.testing.assert_close(model.unembed(torch.cat(hidden, 1)), whole, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_cross_keys_are_made_once(model, monkeypatch):
    memory = model.encode(tokens(2, 17))
    cache = model.new_cache(2, 5)

    def refuse(*_: object) -> None:
        raise AssertionError("the encoded text was projected again")

    for block in model.decoder_blocks:
        monkeypatch.setattr(block.cross, "project", refuse)
    monkeypatch.setattr(model.encoder, "forward", refuse)
    for _ in range(5):
        model.decode(tokens(2, 1), memory, cache=cache)


@torch.no_grad()
def test_selected_rows_go_on_by_themselves(model):
    source, written, lengths = tokens(3, 17), tokens(3, 11), torch.tensor([17, 9, 13])
    rows = torch.tensor([2, 0])
    memory = model.encode(source, lengths).select(rows)
    hidden = model.decode(written[rows], memory)
    whole = model.hidden(source, written, lengths)
    torch.testing.assert_close(hidden, whole[rows], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_cross_attention_equals_its_definition(model):
    cross = model.decoder_blocks[0].cross
    x, encoded = torch.randn(2, 7, 52), torch.randn(2, 13, 52)
    keys, values = cross.project(encoded)
    c = model.config
    weights = cross.kv.weight.unflatten(0, (2, c.n_kv_heads, c.head_dim))
    biases = (
        cross.kv.bias.unflatten(0, (2, c.n_kv_heads, c.head_dim))
        if c.qkv_bias
        else 0 * weights[..., 0]
    )
    heads = []
    for head in range(c.n_heads):
        shared = head // c.group_size
        rows = slice(head * c.head_dim, (head + 1) * c.head_dim)
        q = x @ cross.q.weight[rows].T + (cross.q.bias[rows] if c.qkv_bias else 0)
        k = encoded @ weights[0, shared].T + biases[0, shared]
        v = encoded @ weights[1, shared].T + biases[1, shared]
        heads.append((q @ k.mT * (c.attention_scale or c.head_dim**-0.5)).softmax(dim=-1) @ v)
    expected = cross.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(cross(x, keys, values), expected, atol=1e-5, rtol=1e-4)


def test_one_embedding_serves_both_stacks(model, tmp_path):
    names = [name for name, _ in model.named_parameters()]
    assert sum("embedding.weight" in name and "position" not in name for name in names) == 1
    assert model.encoder.embedding is model.decoder.embedding
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    copy = EncoderDecoder(
        model.config, model.encoder_config.n_layers, logit_scale=model.logit_scale
    ).eval()
    copy.load_state_dict(load_file(tmp_path / "model.safetensors"))
    source, written = tokens(2, 17), tokens(2, 11)
    assert torch.equal(copy(source, written), model(source, written))


def test_every_parameter_learns(model):
    model(tokens(2, 17), tokens(2, 11), torch.tensor([17, 9])).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_initial_loss_is_uniform_and_the_residual_is_fed_gently():
    torch.manual_seed(3)
    model = EncoderDecoder(config(n_layers=5))
    ids = tokens(5, 32)
    loss = torch.nn.functional.cross_entropy(model(tokens(5, 17), ids[:, :-1]).mT, ids[:, 1:])
    assert abs(loss.item() - torch.log(torch.tensor(101.0)).item()) < 0.1
    parameters = dict(model.named_parameters())
    for name in ("4.mixer.out", "0.cross.out", "2.feedforward.out"):
        std = parameters[f"decoder.blocks.{name}.weight"].std().item()
        assert std == pytest.approx(0.02 / 15**0.5, rel=0.1), name
    assert model.decoder_blocks[0].cross.q.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_stacked_rows_name_parameters(model):
    parameters = dict(model.named_parameters())
    assert {name.split(".", 1)[0] for name in model.stacked_rows} == {"encoder", "decoder"}
    for name, rows in model.stacked_rows.items():
        assert parameters[name].shape[0] == sum(rows)
    assert "decoder.blocks.0.cross.kv.weight" in model.stacked_rows


def test_flops_equal_torchs_counter(model):
    c, n_encoder_layers = model.config, model.encoder_config.n_layers
    with (  # the math kernel: torch's counter does not know the fused one on a processor
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        model(tokens(3, 17), tokens(3, 11))
    assert encoder_decoder_flops(c, n_encoder_layers, 3, 17, 11) == counter.get_total_flops()


def test_the_meta_device_holds_a_large_one():
    # T5-11B (Raffel et al. 2020, section 3.7 and the released configuration).
    large = ModelConfig(
        vocab_size=32128, d_model=1024, n_layers=24, n_heads=128, head_dim=128, d_ff=65536,
        max_seq_len=512, position="t5", activation="relu", attention_scale=1.0,
    )  # fmt: skip
    with torch.device("meta"):
        model = EncoderDecoder(large)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(11e9, rel=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixer": "mamba", "position": "none"}, "takes mixer='attention'"),
        ({"mask": "prefix"}, "mask='causal'"),
        ({"attention": "window", "window": 5}, "attention='full'"),
        ({"norm_placement": "sandwich"}, "no place for cross-attention"),
        ({"parallel": True}, "parallel=True"),
    ],
)
def test_what_has_no_meaning_with_two_stacks_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        EncoderDecoder(config(**changes))


def test_lengths_that_do_not_fit_are_refused():
    model = EncoderDecoder(config())
    for lengths in ([0, 3], [3, 18]):
        with pytest.raises(ValueError, match="between 1 and the 17"):
            model.encode(tokens(2, 17), torch.tensor(lengths))
    with pytest.raises(ValueError, match="max_seq_len=37"):
        model.encode(tokens(1, 38))
