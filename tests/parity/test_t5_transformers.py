"""The encoder-decoder's logits equal transformers' T5 on copied weights, versions 1.0 and 1.1."""

from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.encoder_decoder import EncoderDecoder

D_MODEL, HEADS, HEAD_DIM, D_FF, LAYERS, ENCODER_LAYERS, VOCAB = 52, 3, 14, 67, 2, 3, 101
State = dict[str, torch.Tensor]


def attention(theirs: State, source: str, names: str) -> torch.Tensor:
    return torch.cat([theirs[f"{source}.{name}.weight"] for name in names])


def t5_state(theirs: State, *, gated: bool) -> State:
    ours: State = {"decoder.embedding.weight": theirs["shared.weight"]}
    if gated:
        ours["decoder.head.weight"] = theirs["lm_head.weight"]
    for stack, n_layers in (("encoder", ENCODER_LAYERS), ("decoder", LAYERS)):
        first = f"{stack}.block.0.layer.0.SelfAttention."
        ours[f"{stack}.position_bias.weight"] = theirs[first + "relative_attention_bias.weight"]
        ours[f"{stack}.norm.weight"] = theirs[f"{stack}.final_layer_norm.weight"]
        for i in range(n_layers):
            source, target = f"{stack}.block.{i}.layer.", f"{stack}.blocks.{i}."
            own = source + "0.SelfAttention"
            ours[target + "mixer.qkv.weight"] = attention(theirs, own, "qkv")
            ours[target + "mixer.out.weight"] = theirs[own + ".o.weight"]
            ours[target + "mixer_norm.weight"] = theirs[source + "0.layer_norm.weight"]
            last = 1
            if stack == "decoder":
                cross = source + "1.EncDecAttention"
                ours[target + "cross.q.weight"] = theirs[cross + ".q.weight"]
                ours[target + "cross.kv.weight"] = attention(theirs, cross, "kv")
                ours[target + "cross.out.weight"] = theirs[cross + ".o.weight"]
                ours[target + "cross_norm.weight"] = theirs[source + "1.layer_norm.weight"]
                last = 2
            dense = f"{source}{last}.DenseReluDense."
            up = [theirs[f"{dense}{n}.weight"] for n in (("wi_0", "wi_1") if gated else ("wi",))]
            ours[target + "feedforward.up.weight"] = torch.cat(up)
            ours[target + "feedforward.out.weight"] = theirs[dense + "wo.weight"]
            norm = f"{source}{last}.layer_norm.weight"
            ours[target + "feedforward_norm.weight"] = theirs[norm]
    return ours


def pair(version: str) -> tuple[EncoderDecoder, Any]:
    gated = version == "1.1"
    torch.manual_seed(13)
    settings: dict[str, Any] = {
        "vocab_size": VOCAB, "d_model": D_MODEL, "d_kv": HEAD_DIM, "num_heads": HEADS,
        "d_ff": D_FF, "num_layers": ENCODER_LAYERS, "num_decoder_layers": LAYERS,
        "relative_attention_num_buckets": 10, "relative_attention_max_distance": 19,
        "feed_forward_proj": "gated-gelu" if gated else "relu", "tie_word_embeddings": not gated,
        "decoder_start_token_id": 0, "eos_token_id": None,
    }  # fmt: skip
    theirs = T5ForConditionalGeneration(T5Config(**settings)).eval()
    with torch.no_grad():  # large enough for a mistake to show; norms' weights unlike each other
        for name, parameter in theirs.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.12)
            else:
                largest = 9.0 if name.startswith("decoder.final") else 1.5
                parameter.uniform_(largest / 3, largest)
        if gated:  # version 1.1's output matrix is its own; this transformers ties it
            theirs.lm_head.weight = torch.nn.Parameter(0.05 * torch.randn(VOCAB, D_MODEL))
    ours = EncoderDecoder(
        ModelConfig(
            vocab_size=VOCAB, d_model=D_MODEL, n_layers=LAYERS, n_heads=HEADS, head_dim=HEAD_DIM,
            d_ff=D_FF, max_seq_len=41, position="t5", relative_buckets=10,
            relative_max_distance=19, attention_scale=1.0, norm_eps=1e-6,
            activation="geglu_tanh" if gated else "relu", tie_embeddings=not gated,
        ),
        ENCODER_LAYERS,
        logit_scale=1.0 if gated else D_MODEL**-0.5,
    ).eval()  # fmt: skip
    ours.load_state_dict(t5_state(theirs.state_dict(), gated=gated))
    return ours, theirs


@torch.no_grad()
@pytest.mark.covers("arch.encoder-decoder")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_logits_equal_transformers(version):
    ours, theirs = (model.double() for model in pair(version))  # final weights of up to 9
    source, written = torch.randint(VOCAB, (3, 31)), torch.randint(VOCAB, (3, 23))
    expected = theirs(source, decoder_input_ids=written).logits
    assert expected.std() > 0.5, "the weights are large enough for a mistake to show"
    torch.testing.assert_close(ours(source, written), expected, atol=1e-4, rtol=1e-4)

    lengths = torch.tensor([31, 7, 19])
    is_text = torch.arange(31) < lengths[:, None]
    expected = theirs(source, is_text.long(), decoder_input_ids=written).logits
    torch.testing.assert_close(ours(source, written, lengths), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.covers("arch.encoder-decoder")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_greedy_text_equals_transformers(version):
    ours, theirs = pair(version)
    source, lengths = torch.randint(VOCAB, (3, 29)), torch.tensor([29, 11, 23])
    is_text = (torch.arange(29) < lengths[:, None]).long()
    expected = theirs.generate(
        source, attention_mask=is_text, max_new_tokens=19, min_new_tokens=19, do_sample=False
    )
    memory, cache = ours.encode(source, lengths), ours.new_cache(3, 20)
    written = [torch.zeros(3, 1, dtype=torch.long)]  # T5 starts with its padding token, 0
    for _ in range(19):
        hidden = ours.decode(written[-1], memory, cache=cache)
        written.append(ours.unembed(hidden[:, -1:]).argmax(-1))
    text = torch.cat(written, dim=1)
    assert torch.equal(text, expected)
    assert len(text.unique()) > 5, "the text is no mere repetition"
