"""Command line: `python -m llmlib.capstone run --preset laptop`."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from llmlib.architecture.config import ModelConfig
from llmlib.capstone.end_to_end import prepare_preset, run
from llmlib.capstone.presets import PRESETS, Preset, preset
from llmlib.capstone.pretrain import InterruptedRunError
from llmlib.capstone.results import append_result

STOPPED = 130  # what a shell reports after Ctrl-C

app = typer.Typer(
    help="From raw text to a trained, measured language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


Name = Annotated[str, typer.Option("--preset", help="see `presets`")]
CorpusName = Annotated[
    str | None,
    typer.Option(
        "--corpus", help="fixed, environment, hub:NAME[:CONFIG], or a file or folder of text"
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="the run's folder [default: runs/PRESET]")]
VocabSize = Annotated[
    int | None, typer.Option("--vocab-size", min=1, help="tokens of the tokenizer")
]
Fields = Annotated[
    list[str] | None,
    typer.Option("--model", help="FIELD=VALUE of the model, e.g. mixer=mamba; may be repeated"),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="processes that clean and encode text [default: the preset's]"
    ),
]
Parallelism = Annotated[
    str | None,
    typer.Option("--parallel", help="ddp, fsdp or tensor, under torchrun [default: the preset's]"),
]
TensorSize = Annotated[
    int | None,
    typer.Option("--tensor-size", min=1, help="processes that share each product, with tensor"),
]
Checkpoints = Annotated[
    str | None,
    typer.Option("--checkpoints", help="whole, or sharded: each process writes its own pieces"),
]
Updates = Annotated[
    str | None, typer.Option("--optimizer", help="adamw or muon [default: the preset's]")
]
Together = Annotated[
    int | None, typer.Option("--micro-batch", min=1, help="sequences a process computes at once")
]
Shrunk = Annotated[bool, typer.Option("--shrunk", help="the same recipe in seconds, to try it out")]


@app.command("run")
def run_command(
    name: Name = "laptop",
    corpus: CorpusName = None,
    out: Out = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="train for so many steps")] = None,
    vocab_size: VocabSize = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda ... [default: the best]")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or auto [default: the preset's]")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="append the result to this file")] = None,
    model: Fields = None,
    workers: Processes = None,
    parallel: Parallelism = None,
    tensor_size: TensorSize = None,
    checkpoints: Checkpoints = None,
    optimizer: Updates = None,
    micro_batch: Together = None,
    shrunk: Shrunk = False,
) -> None:
    """Gather, clean, tokenize, train, evaluate, sample, report; continues where it stopped."""
    with _mistakes_in_one_sentence():
        chosen = _chosen(
            name,
            shrunk=shrunk,
            corpus=corpus,
            steps=steps,
            vocab_size=vocab_size,
            workers=workers,
        )
        changes = {
            "precision": precision,
            "parallel": parallel,
            "tensor_size": tensor_size,
            "checkpoints": checkpoints,
            "optimizer": optimizer,
        }
        chosen = chosen.with_train(**{name: value for name, value in changes.items() if value})
        chosen = replace(chosen, micro_batch=micro_batch or chosen.micro_batch)
        chosen = replace(chosen, model=with_fields(chosen.model, model or []))
        command = shlex.join(["python", "-m", "llmlib.capstone", *sys.argv[1:]])
        report = run(chosen, _folder(out, chosen), seed=seed, device=device, command=command)
        if record and report:
            append_result(report, record)


@app.command("prepare")
def prepare_command(
    name: Name = "laptop",
    corpus: CorpusName = None,
    out: Out = None,
    vocab_size: VocabSize = None,
    workers: Processes = None,
    shrunk: Shrunk = False,
) -> None:
    """Gather, clean and tokenize only: `run` then starts at once, and no GPU waits for text."""
    with _mistakes_in_one_sentence():
        chosen = _chosen(name, shrunk=shrunk, corpus=corpus, vocab_size=vocab_size, workers=workers)
        prepare_preset(chosen, _folder(out, chosen) / "data", print)


@contextmanager
def _mistakes_in_one_sentence() -> Iterator[None]:
    """Say what the caller can mend in one sentence; anything else is a defect, with its trace."""
    try:
        yield
    except InterruptedRunError as stop:
        typer.echo(str(stop), err=True)
        raise typer.Exit(STOPPED) from stop
    except (ValueError, OSError, FloatingPointError) as error:
        typer.echo(f"capstone: {error}", err=True)
        raise typer.Exit(2) from error


def _folder(out: Path | None, chosen: Preset) -> Path:
    return out or Path("runs") / chosen.name


def _chosen(
    name: str,
    *,
    shrunk: bool,
    corpus: str | None = None,
    steps: int | None = None,
    vocab_size: int | None = None,
    workers: int | None = None,
) -> Preset:
    """Return the preset as the options change it; a schedule keeps its shape when steps change."""
    chosen = preset(name).shrunk() if shrunk else preset(name)
    if corpus:
        chosen = replace(chosen, corpus=replace(chosen.corpus, name=corpus))
    if vocab_size:
        chosen = replace(chosen, model=chosen.model.replace(vocab_size=vocab_size))
    if workers:
        chosen = replace(chosen, workers=workers)
    if steps:
        schedule = chosen.train.schedule
        decay = schedule.decay * steps // chosen.train.steps
        schedule = replace(schedule, decay=max(1, decay), warmup=min(schedule.warmup, steps // 10))
        chosen = chosen.with_train(steps=steps, schedule=schedule)
    return chosen


def with_fields(config: ModelConfig, changes: list[str]) -> ModelConfig:
    """Change fields of a model's configuration: `FIELD=VALUE` each, JSON or else a word.

    Raises:
        ValueError: When there is no such field, or the fields contradict each other.
    """
    values: dict[str, Any] = {}
    names = sorted(config.to_dict())
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in names:
            raise ValueError(f"--model {change}: write FIELD=VALUE with a field of {names}")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    if values.keys() & {"vocab_size", "max_seq_len"}:
        raise ValueError("vocab_size has an option of its own, and max_seq_len is the preset's")
    return config.replace(**values)


@app.command("presets")
def presets_command() -> None:
    """List the presets: what each trains on what, and how long it takes."""
    table = Table("preset", "parameters", "tokens", "corpus", "time", "note")
    for chosen in PRESETS.values():
        table.add_row(
            chosen.name,
            f"{chosen.n_parameters / 1e6:.1f} M",
            f"{chosen.tokens / 1e6:,.1f} M",
            chosen.corpus.name,
            chosen.describe_time(),
            chosen.note,
        )
    Console().print(table)


if __name__ == "__main__":
    app()
