"""Folders that transformers wrote, read by us, and the other way round: logits and greedy text."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from llmlib.architecture import Transformer
from llmlib.architecture.pretrained import load_pretrained, save_pretrained
from llmlib.utilization import GREEDY, generate

WINDOW, LENGTH, NEW = 5, 23, 17
SIZES: dict[str, Any] = dict(
    vocab_size=101, hidden_size=42, num_hidden_layers=3, num_attention_heads=6,
    num_key_value_heads=3, intermediate_size=67, max_position_embeddings=47, initializer_range=0.2,
    bos_token_id=None, eos_token_id=None,
)  # fmt: skip


def rope(theta: float, **scaling: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta, **scaling}


def llama(**changes: Any) -> Any:
    fields = {**SIZES, "head_dim": 14, "rope_parameters": rope(5003.0), **changes}
    return LlamaForCausalLM(LlamaConfig(**fields))


def mistral() -> Any:
    return MistralForCausalLM(MistralConfig(**SIZES, head_dim=10, sliding_window=WINDOW))


def qwen2() -> Any:
    sizes: dict[str, Any] = SIZES | {"head_dim": 14}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, tie_word_embeddings=True))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def mixtral() -> Any:
    sizes: dict[str, Any] = SIZES | {
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "head_dim": 14,
    }
    return MixtralForCausalLM(MixtralConfig(**sizes))


def gpt2() -> Any:
    config = GPT2Config(
        vocab_size=101, n_embd=52, n_layer=3, n_head=4, n_inner=71, n_positions=47,
        initializer_range=0.2, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


KINDS = {
    "llama": llama,
    "llama with biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "mistral": mistral,
    "qwen2": qwen2,
    "mixtral": mixtral,
    "gpt2": gpt2,
}


@pytest.fixture(params=KINDS)
def theirs(request) -> Any:
    torch.manual_seed(13)
    return KINDS[request.param]().eval()


def assert_equal(ours: Transformer, theirs: Any) -> None:
    # Their fused product of experts wants sizes that are multiples of four.
    theirs.config._experts_implementation = "eager"
    ids = torch.randint(101, (3, LENGTH))
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=1e-4)
        assert expected.std() > 0.5, "the weights are large enough for a mistake to show"
        greedy = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False,
            pad_token_id=0,
        )  # fmt: skip
    text = generate(ours, ids.tolist(), max_new_tokens=NEW, sampling=GREEDY)
    assert text == greedy[:, LENGTH:].tolist()


@pytest.mark.covers("arch.pretrained")
def test_a_folder_of_transformers_loads(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path)
    assert_equal(ours, theirs)
    if theirs.config.model_type == "mistral":
        assert ours.config.window == WINDOW < LENGTH, "the text is longer than the window"


@pytest.mark.covers("arch.pretrained")
def test_transformers_loads_our_folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "first")
    ours = load_pretrained(tmp_path / "first")
    save_pretrained(ours, tmp_path / "second")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "second").eval()
    assert type(again) is type(theirs)
    assert_equal(ours, again)
    expected = theirs.state_dict()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert load_pretrained(tmp_path / "second").config == ours.config


def test_many_files_load_as_one(tmp_path):
    torch.manual_seed(17)
    theirs = llama().eval()
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len([*tmp_path.glob("*.safetensors")]) > 2
    assert_equal(load_pretrained(tmp_path), theirs)


def test_old_settings_of_rope_are_read(tmp_path):
    torch.manual_seed(19)
    theirs = llama().eval()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    del content["rope_parameters"]
    path.write_text(json.dumps(content | {"rope_theta": 5003.0, "rope_scaling": None}))
    assert_equal(load_pretrained(tmp_path), theirs)


def test_weights_named_as_gpt2_was_published_load(tmp_path):
    from safetensors.torch import load_file, save_file

    torch.manual_seed(23)
    theirs = gpt2().eval()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {n.removeprefix("transformer."): t for n, t in load_file(path).items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 47, 47)  # the causal mask, a buffer of old files
    save_file(tensors, path, metadata={"format": "pt"})
    assert_equal(load_pretrained(tmp_path), theirs)


def write_gguf(model: Any, path: Path) -> None:
    """Write a LLaMA as llama.cpp keeps it, some matrices quantized."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
        for kind, count in heads.items():
            if f"{kind}_proj" in name:  # as llama.cpp's converter does
                halves = tensor.reshape(count, 2, config.head_dim // 2, -1)
                tensor = halves.transpose(1, 2).reshape(tensor.shape)
        target = names.get_name(name, try_suffixes=(".weight",))
        assert target is not None
        writer.add_tensor(target, tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_loads(tmp_path):
    torch.manual_seed(29)
    theirs = llama().eval()
    write_gguf(theirs, tmp_path / "model.gguf")
    assert_equal(load_pretrained(tmp_path / "model.gguf"), theirs)
