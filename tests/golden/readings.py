"""What the library computes on fixed inputs, whatever shape its code has.

`python tests/golden/readings.py --to FILE` writes every reading with all its digits; the same with
`--against FILE` compares to the bit, which holds on one machine and is how a pure move is proved.
`--record` stores what the committed test compares: hashes whole, numbers to seven digits.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmlib.architecture import Transformer
from llmlib.architecture.pretrained import load_pretrained, load_tokenizer
from llmlib.architecture.pretrained.smollm2 import smollm2_file
from llmlib.capstone.end_to_end import prepare_preset
from llmlib.capstone.prepare import load_prepared
from llmlib.capstone.presets import Preset, preset
from llmlib.capstone.pretrain import build_model
from llmlib.data import ByteBPE, TokenLoader, fixed_corpus
from llmlib.data.tokenizers.bpe.character_bpe import CharacterBPE
from llmlib.data.tokenizers.files.rank_file import RankBPE
from llmlib.data.tokenizers.files.sentencepiece_tokenizer import SentencePieceModel
from llmlib.data.tokenizers.unigram.unigram import Unigram
from llmlib.data.tokenizers.wordpiece import WordPiece
from llmlib.training import Trainer

STORED = Path(__file__).with_name("readings.json")
STEPS = 20
PROMPT = "The three largest cities of Japan are Tokyo,"
Reading = dict[str, Any]


def digest(values: Any) -> str:
    """Hash an array's bytes, or anything JSON can hold."""
    if isinstance(values, torch.Tensor):
        values = values.numpy()
    if isinstance(values, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def cleaning_and_training(folder: Path) -> Reading:
    """Take the tiny capstone's path: what its pipeline keeps, and the first losses it sees."""
    tiny = preset("tiny")
    prepared_of = prepare_preset(tiny, folder, say=lambda line: None)
    cleaned = prepared_of["clean"]
    prepared = load_prepared(folder, prepared_of)
    designs = {
        "capstone": {},
        "experts": {"n_experts": 4, "experts_per_token": 2},
        "rwkv": {"mixer": "rwkv"},
    }
    losses = {}
    for name, changes in designs.items():
        torch.manual_seed(0)
        model = Transformer(tiny.model.replace(**changes))
        losses[name] = _losses(tiny, model, _loader(tiny, prepared))
    model, loader = (
        build_model(tiny.model, 0, torch.device("cpu")),
        _loader(tiny, prepared, documents=True),
    )
    losses["packed"] = _losses(tiny, model, loader)
    kept = ("train_sha256", "held_out_sha256", "dropped", "funnel")
    return {
        "cleaning": {name: cleaned[name] for name in kept},
        "capstone's tokenizer": prepared_of["tokenizer"]["sha256"],
        "losses": losses,
    }


def _loader(tiny: Preset, prepared: Any, **options: Any) -> TokenLoader:
    return TokenLoader(
        prepared.train, batch_size=tiny.micro_batch, seq_len=tiny.seq_len, seed=0, **options
    )


def _losses(tiny: Preset, model: Transformer, loader: Any, **options: Any) -> list[float]:
    with tempfile.TemporaryDirectory() as runs:
        trainer = Trainer(model, loader, tiny.train, Path(runs), show_progress=False, **options)
        model.train()
        lines = [trainer.train_step() for _ in range(STEPS)]
    # What is minimized: with experts their balance loss, logged apart, is in it.
    return [line["loss"] + line.get("auxiliary_loss", 0.0) for line in lines]


def tokenizers() -> Reading:
    """Train or read every tokenizer and hash the ids of a fixed sample."""
    texts = [document.text for document in fixed_corpus()[::40]]
    sample = [*texts[:200], "naïve café, 北京 2024-01-31; \t\n\n  🎉 it's `x**2`!", ""]
    trained = {
        "byte-level BPE": ByteBPE.train(texts, 700, ("<|endoftext|>",)),
        "character BPE": CharacterBPE.train(texts, 500),
        "WordPiece": WordPiece.train(texts, 600),
        "Unigram": Unigram.train(texts, 500),
        "SentencePiece unigram": SentencePieceModel.train(texts, 700),
        "SentencePiece bpe": SentencePieceModel.train(texts, 700, model_type="bpe"),
    }
    ranks = {bytes([i]): i for i in range(256)}
    ranks |= {pair: 256 + i for i, pair in enumerate((b"th", b"er", b" t", b"the", b" the"))}
    readers = {**trained, "ranks": RankBPE(ranks), "SmolLM2": load_tokenizer(smollm2_file())}
    found: dict[str, str] = {}
    for name, tokenizer in readers.items():
        ids = [list(map(int, tokenizer.encode(text))) for text in sample]
        found[name] = digest(ids)
        found[f"{name}, read back"] = digest([tokenizer.decode(row) for row in ids])
    found["chat template"] = readers["SmolLM2"].chat(
        [{"role": "user", "content": "What is 2 + 2?"}], add_generation_prompt=True
    )
    return {"tokenizers": found}


@torch.no_grad()
def pretrained() -> Reading:
    """Read SmolLM2 and keep the logits that it gives after each token of one prompt."""
    model, tokenizer = load_pretrained(smollm2_file()), load_tokenizer(smollm2_file())
    ids = torch.tensor([tokenizer.encode(PROMPT)])
    logits = model(ids)[0]  # [T, V]
    best = logits.topk(5)
    return {
        "SmolLM2": {
            "ids": ids[0].tolist(),
            "best": best.indices.tolist(),
            "logits": best.values.tolist(),
            "partition": logits.logsumexp(-1).tolist(),
        }
    }


def readings() -> Reading:
    """Return every reading, with all digits."""
    with tempfile.TemporaryDirectory() as folder:
        trained = cleaning_and_training(Path(folder))
    return {**trained, **tokenizers(), **pretrained()}


def rounded(value: Any) -> Any:
    """Keep seven significant digits of every number that is not whole."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def differences(got: Any, want: Any, close: Callable[[float, float], bool], at: str = "") -> list:
    """Name every place at which two readings are not the same."""
    if isinstance(got, float) and isinstance(want, float):
        return [] if close(got, want) else [f"{at}: {got} is not {want}"]
    if isinstance(got, dict) and isinstance(want, dict) and got.keys() == want.keys():
        return [d for key in want for d in differences(got[key], want[key], close, f"{at}/{key}")]
    if isinstance(got, list) and isinstance(want, list) and len(got) == len(want):
        pairs = enumerate(zip(got, want, strict=True))
        return [d for i, (g, w) in pairs for d in differences(g, w, close, f"{at}[{i}]")]
    return [] if got == want else [f"{at}: {got!r} is not {want!r}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = readings()
    if options.to:
        options.to.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.record:
        text = json.dumps(rounded(found), indent=1, ensure_ascii=False)
        STORED.write_text(text + "\n", encoding="utf-8")
    if options.against:
        want = json.loads(options.against.read_text(encoding="utf-8"))
        wrong = differences(json.loads(json.dumps(found)), want, lambda a, b: a == b)
        print("\n".join(wrong) or "equal to the last bit")
        return int(bool(wrong))
    return 0


if __name__ == "__main__":
    sys.exit(main())
