"""The capstone's last page: `report.json` for programs, `report.md` and a figure for people."""

import json
from pathlib import Path
from typing import Any

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import parameters, training_state_bytes
from llmlib.capstone.recipe_origin import describe_recipe
from llmlib.core.figures import use_style
from llmlib.core.files import atomic_path, atomic_write
from llmlib.core.hardware.machine import machine_class, versions
from llmlib.data.cleaning.funnel import funnel_figure
from llmlib.data.cleaning.report import FunnelStep
from llmlib.scaling.chinchilla import BESIROGLU_2024, HOFFMANN_2022, optimal_allocation
from llmlib.training.config import TrainConfig
from llmlib.training.metrics import read_metrics

CLEANING_OF_FIXED = (
    "What cleaning does to the bits per byte of this corpus: small decoders that read equally many "
    "tokens of it as gathered, without copies, and without what leaks differ by less than 0.01 on "
    "the same held-out text, which three seeds cannot tell from zero "
    "(`data/results/cleaning_steps.jsonl`); it is documentation from the start. The model of the "
    "laptop preset, larger and trained longer, pays 0.03 to 0.05 *more* for the same held-out text "
    "once the documents that leak are gone (`data/results/capstone_with_leaks.jsonl`): so much of "
    "its earlier result was memory."
)


def assemble(
    origin: dict[str, Any],
    config: ModelConfig,
    train: TrainConfig,
    data: dict[str, Any],
    training: dict[str, Any],
    evaluation: dict[str, Any],
) -> dict[str, Any]:
    """Put everything that a run found into one record of JSON values.

    Args:
        origin: Preset, seed and command that made the run, and the corpus.
        config: The model.
        train: How it was trained.
        data: What `prepare` returned.
        training: What `pretrain` returned.
        evaluation: Bits per byte of the model and the baselines, and what the model wrote.
    """
    counts = parameters(config)
    stages = (*data.values(), training, evaluation)
    return {
        **origin,
        "machine": machine_class(),
        "versions": versions("tokenizers", "safetensors"),
        "model": {**config.to_dict(), "parameters": counts.total},
        "optimizer": train.recipe(),
        "data": data,
        "training": training,
        "training_state_bytes": training_state_bytes(counts.total),
        "budget": _budgets(training["tokens"] * training["flops_per_token"]),
        "evaluation": {name: found for name, found in evaluation.items() if name != "samples"},
        "samples": evaluation["samples"],
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
    }


def _budgets(compute: float) -> dict[str, Any]:
    """Say how two fits of the same law would have spent a run's compute."""
    laws = {"Hoffmann et al. 2022": HOFFMANN_2022, "Besiroglu et al. 2024": BESIROGLU_2024}
    advice = {}
    for name, law in laws.items():
        best = optimal_allocation(compute, law)
        advice[name] = {"parameters": round(best.n_params), "tokens": round(best.n_tokens)}
    return {"compute_flops": compute, "compute_optimal": advice}


def write_report(report: dict[str, Any], folder: Path) -> Path:
    """Write `report.json`, `loss.png`, `funnel.png` and `report.md`, whose path is returned.

    The folder is the run's, which holds `metrics.jsonl`.
    """
    atomic_write(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    draw_loss(read_metrics(folder / "metrics.jsonl"), report, folder / "loss.png")
    draw_funnel(report["data"]["clean"]["funnel"], folder / "funnel.png")
    atomic_write(folder / "report.md", as_markdown(report))
    return folder / "report.md"


def draw_loss(lines: list[dict[str, Any]], report: dict[str, Any], path: Path) -> None:
    """Draw the training and held-out loss of a run's metrics against the tokens read."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    use_style()
    figure, axes = plt.subplots(figsize=(7, 4))
    millions = [line["tokens"] / 1e6 for line in lines]
    axes.plot(millions, [line["loss"] for line in lines], lw=0.8, alpha=0.5, label="each batch")
    held_out = [(line["tokens"] / 1e6, line["held_out_loss"]) for line in lines
                if "held_out_loss" in line]  # fmt: skip
    if held_out:
        axes.plot(*zip(*held_out, strict=True), "o-", label="held-out batches")
    axes.set(xlabel="tokens read (millions)", ylabel="loss (nats per token)")
    axes.set_title(f"{report['model']['parameters'] / 1e6:.1f} M parameters, seed {report['seed']}")
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    plt.close(figure)


def draw_funnel(funnel: list[dict[str, Any]], path: Path) -> None:
    """Draw what was left of the text after each step: its name, documents and bytes."""
    use_style()
    figure = funnel_figure([FunnelStep(**step) for step in funnel])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def as_markdown(report: dict[str, Any]) -> str:
    """Write the report for people, in Markdown."""
    parts = [
        f"# Capstone run: {report['preset']}, seed {report['seed']}",
        f"`{report['command']}` on {report['machine']}, {report['seconds'] / 60:.1f} minutes.",
        "## Held-out text",
        _evaluation_table(report["evaluation"]),
        *([describe_recipe()] if report["preset"] == "laptop" else []),
        "## Training",
        "![Loss against tokens](loss.png)",
        _training_table(report),
        "## Data",
        "![What is left after each step](funnel.png)",
        _funnel_table(report["data"]),
        *([CLEANING_OF_FIXED] if report["corpus"] == "fixed" else []),
        "## What a scaling law would have done with this compute",
        _budget_table(report),
        "## Samples",
        *map(_sample, report["samples"]),
    ]
    return "\n\n".join(parts) + "\n"


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _evaluation_table(evaluation: dict[str, Any]) -> str:
    rows = [("this model", f"**{evaluation['model']['bits_per_byte']:.4f}**")]
    others = evaluation["baselines"]
    if others:
        order = others["ngram_order"]
        rows += [
            ("`xz -9`, primed with the training text", f"{others['xz_bits_per_byte']:.4f}"),
            (
                f"interpolated Kneser-Ney {order}-grams of the same tokens",
                f"{others['ngram_bits_per_byte']:.4f}",
            ),
        ]
    return _table(("predictor", "bits per byte"), rows)


def _training_table(report: dict[str, Any]) -> str:
    training, model = report["training"], report["model"]
    rows = [
        ("parameters", f"{model['parameters']:,}"),
        ("tokens read", f"{training['tokens']:,} in {training['steps']:,} steps"),
        ("time in steps", f"{training['training_seconds'] / 60:.1f} min"),
        ("speed", f"{training['tokens_per_second']:,.0f} tokens/s ({training['precision']})"),
        (
            "share of the measured matrix-product rate (MFU)",
            f"{training['mfu']:.0%} of {training['peak_flops_per_second'] / 1e9:,.0f} GFLOP/s",
        ),
        ("largest resident memory", f"{training['peak_memory_bytes'] / 2**20:,.0f} MiB"),
        (
            "of it weights, gradients, optimizer",
            f"at most {report['training_state_bytes'] / 2**20:,.0f} MiB (AdamW)",
        ),
    ]
    return _table(("", ""), rows)


def _funnel_table(data: dict[str, Any]) -> str:
    rows = [
        (step["name"], f"{step['documents']:,}", f"{step['bytes'] / 1e6:.2f}")
        for step in data["clean"]["funnel"]
    ]
    tokens, leaks = data["tokens"], data["clean"]["leaks"]
    reasons = [(reason, f"{number:,}") for reason, number in data["clean"]["dropped"].items()]
    said = (
        f"The tokenizer has {data['tokenizer']['vocab_size']:,} tokens. It cuts the training part "
        f"into {tokens['train']['tokens']:,} tokens ({tokens['train']['bytes_per_token']} bytes "
        f"each) and the held-out part into {tokens['held_out']['tokens']:,} "
        f"({tokens['held_out']['bytes_per_token']}). Of the held-out bytes "
        f"{data['clean']['shared_with_train']:.1%} lie in paragraphs that also stand in the "
        f"training part. {leaks['documents']:,} training documents "
        f"{'shared' if leaks['dropped'] else 'share'} 13 words in a row with a held-out one; they "
        f"were {'taken out' if leaks['dropped'] else 'left in'}."
    )
    dropped = _table(("dropped, by step and reason", "documents"), reasons)
    return "\n\n".join((_table(("step", "documents", "MB"), rows), dropped, said))


def _budget_table(report: dict[str, Any]) -> str:
    budget, training = report["budget"], report["training"]
    rows = [("this run", f"{report['model']['parameters']:,}", f"{training['tokens']:,}")]
    rows += [
        (name, f"{best['parameters']:,}", f"{best['tokens']:,}")
        for name, best in budget["compute_optimal"].items()
    ]
    said = (
        f"The run took {budget['compute_flops']:.2e} FLOPs. The laws were fitted on web text seen "
        "once, at a million times this compute: an orientation, not a forecast."
    )
    return _table(("allocation", "parameters", "tokens"), rows) + "\n\n" + said


def _sample(sample: dict[str, Any]) -> str:
    prompt = sample["prompt"] or "(a new document)"
    text = (sample["prompt"] + sample["text"]).replace("```", "'''")
    return f"Temperature {sample['temperature']}, after `{prompt!r}`:\n\n```text\n{text}\n```"
