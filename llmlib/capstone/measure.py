"""What the trained model is worth: bits per byte of held-out text, beside two baselines."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.capstone.prepare import Prepared
from llmlib.data.corpora.document import load_documents
from llmlib.evaluation.bits import bits_per_byte, score_tokens
from llmlib.evaluation.compressors import primed_xz_bits_per_byte
from llmlib.introduction.kneser_ney import KneserNey
from llmlib.training.checkpointing.checkpoint import load_model
from llmlib.training.checkpointing.files import read_manifest
from llmlib.utilization.generation import generate
from llmlib.utilization.sampling import Sampling

NGRAM_ORDER = 5
SEPARATOR = "\n"
LARGEST_BASELINE = 200_000_000  # bytes of training text; above it n-grams and xz take hours
TEMPERATURES = (0.5, 0.8, 1.0)


def load_trained(checkpoint: Path, config: ModelConfig, device: torch.device) -> Transformer:
    """Read the trained model back from its checkpoint, in evaluation mode.

    Raises:
        ValueError: When the checkpoint belongs to another configuration or is cut short.
    """
    if read_manifest(checkpoint)["model_config"] != config.to_dict():
        raise ValueError(f"{checkpoint} holds a model of another configuration than this preset")
    model = Transformer(config)
    load_model(checkpoint, model)
    return model.to(device).eval()


def held_out_bits(model: Transformer, prepared: Prepared, *, stride: int) -> dict[str, Any]:
    """Score the held-out text as one stream: every document, each followed by its end.

    The bytes are those of the documents and of one separator each; the model pays for that
    separator by predicting the end-of-text token. The window slides by `stride` tokens, so
    that almost every token is predicted from at least `max_seq_len - stride` earlier ones.

    Returns:
        Bits per byte, nats per token, and the counts.
    """
    stream = prepared.held_out.read(0, prepared.held_out.n_tokens).astype(np.int64)
    # The end of an (absent) earlier document starts the stream, so its first token is scored too.
    sequence = np.concatenate(([prepared.end_of_text], stream))
    nats = score_tokens(model, [sequence.tolist()], stride=stride)[0]
    return {
        "bits_per_byte": bits_per_byte(float(nats.sum()), prepared.held_out_bytes),
        "nats_per_token": float(nats.mean()),
        "tokens": len(nats),
        "bytes": prepared.held_out_bytes,
    }


def baselines(prepared: Prepared) -> dict[str, Any]:
    """Score the same held-out text with `xz -9` and with n-grams of the model's tokens.

    Returns:
        Bits per byte of xz primed with the training text and of an interpolated, modified
        Kneser-Ney model of order 5; empty when the training text is too large for them.
    """
    if prepared.train_bytes > LARGEST_BASELINE:
        return {}
    train, held_out = (_joined(prepared.folder / f"{part}.jsonl") for part in ("train", "held_out"))
    assert len(held_out) == prepared.held_out_bytes
    tokens = [
        source.read(0, source.n_tokens).astype(np.int64)
        for source in (prepared.train, prepared.held_out)
    ]
    ngrams = KneserNey.fit(
        tokens[0],
        order=NGRAM_ORDER,
        vocab_size=prepared.tokenizer.vocab_size,
        end_token=prepared.end_of_text,
        modified=True,
    )
    nats = -float(ngrams.log_prob(tokens[1]).sum())
    return {
        "xz_bits_per_byte": primed_xz_bits_per_byte(train, held_out),
        "ngram_bits_per_byte": bits_per_byte(nats, prepared.held_out_bytes),
        "ngram_order": NGRAM_ORDER,
        "ngram_counts": ngrams.n_ngrams,
    }


def _joined(path: Path) -> bytes:
    return "".join(document.text + SEPARATOR for document in load_documents(path)).encode()


def samples(
    model: Transformer, prepared: Prepared, *, max_tokens: int, seed: int
) -> list[dict[str, Any]]:
    """Continue the beginning of a held-out document, and begin a new one, at three temperatures.

    Returns:
        One record a sample: temperature, prompt and continuation.
    """
    first = prepared.held_out.read(0, min(12, prepared.held_out.n_tokens)).tolist()
    end = prepared.end_of_text
    opening = first[: first.index(end)] if end in first else first
    prompts = [[end, *opening], [end]]
    room = model.config.max_seq_len - max(map(len, prompts))
    records = []
    for temperature in TEMPERATURES:
        texts = generate(
            model,
            prompts,
            max_new_tokens=min(max_tokens, room),
            sampling=Sampling(temperature=temperature, top_p=0.95),
            stop_tokens=[end],
            seed=seed,
        )
        for prompt, ids in zip(prompts, texts, strict=True):
            records.append(
                {
                    "temperature": temperature,
                    "prompt": prepared.tokenizer.decode(prompt[1:]),
                    "text": prepared.tokenizer.decode(ids),
                }
            )
    return records
