"""Our decoder as a folder that transformers loads."""

import json
from pathlib import Path

from safetensors.torch import save_file

from llmlib.architecture.pretrained.configs import config_to_folder, family_of
from llmlib.architecture.pretrained.folder import SINGLE, remove_other_weights
from llmlib.architecture.pretrained.names import gpt2_parts, llama_parts
from llmlib.architecture.transformer import Transformer
from llmlib.core.files import atomic_path, atomic_write


def save_pretrained(model: Transformer, path: str | Path) -> None:
    """Write a model as transformers keeps it: `config.json` and `model.safetensors`.

    The family (LLaMA, Mistral, Qwen2, Mixtral or GPT-2) follows from the configuration. Weights of
    an earlier model in the folder, one file or several, are replaced.

    Raises:
        ValueError: If no supported family has all of the model's choices.
    """
    folder, config = Path(path), model.config
    family = family_of(config)
    parts = gpt2_parts(config) if family == "gpt2" else llama_parts(config)
    parameters = dict(model.named_parameters())
    assert parts.keys() == parameters.keys(), "the family's names do not cover the model"
    tensors = {}
    for name, group in parts.items():
        rows = parameters[name].detach().cpu().split([part.rows for part in group])
        for part, tensor in zip(group, rows, strict=True):
            # A part must own its memory: the format refuses views into one another.
            tensors[part.name] = part.to_theirs(tensor).clone()
    dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
    content = {**config_to_folder(config), "dtype": dtype}
    with atomic_path(folder / SINGLE) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
        # From here to the end the folder cannot be read: half a save must not mix two models.
        (folder / "config.json").unlink(missing_ok=True)
    remove_other_weights(folder)
    atomic_write(folder / "config.json", json.dumps(content, indent=2) + "\n")
