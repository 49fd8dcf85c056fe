"""What each preset of the capstone trains, on what, and for how long."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import decoder_training_flops, parameters
from llmlib.data.privacy.spans import PERSONAL_KINDS
from llmlib.scaling.flops import run_cost
from llmlib.training.config import TrainConfig
from llmlib.training.optimizers.schedules import Schedule

H100_FLOPS = 989e12  # dense bfloat16, NVIDIA H100 SXM data sheet
ASSUMED_MFU = 0.4
ASSUMED_PRICE = 3.0  # USD for an hour of one H100; rented ones cost 2 to 4


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where the text comes from, how much of it is used, and how it is cleaned."""

    name: str = "fixed"
    """`fixed` (the pinned wheels' docstrings), `environment` (the reader's own docstrings),
    `hub:NAME` or `hub:NAME:CONFIG` (a Hub data set, streamed), or the path of a text or JSONL file
    or of a folder of them."""
    max_bytes: int = 0
    """Stop reading after so much text; 0 reads all."""
    held_out: float = 0.05
    """Share of the modules (or documents) that is never trained on."""
    kind: Literal["documentation", "web"] = "documentation"
    """`documentation` is judged by `QualityRules`, `web` by Gopher's rules."""
    max_overlap: float = 0.5
    """A document is dropped when more than this share of its 8-word sequences stood in earlier
    documents; 1 keeps near-duplicates."""
    mask: tuple[str, ...] = tuple(k for k in PERSONAL_KINDS if k not in ("address", "name"))
    """Kinds of personal items to replace. Names and postal addresses are left by default: in
    documentation they are those of a bibliography's authors and publishers."""
    drop_leaks: bool = True
    """Take a training document out that shares 13 words in a row with a held-out one; the report
    counts them either way."""
    tokenizer_bytes: int = 200_000_000
    """Train the tokenizer on so much of the training text."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that decides a capstone run, but its seed and its folder."""

    name: str
    """What `--preset` calls it."""
    model: ModelConfig
    """The decoder; its `vocab_size` is the tokenizer's."""
    train: TrainConfig
    batch_size: int
    """Sequences in one update, over all processes."""
    micro_batch: int
    """Sequences that one process computes at once."""
    corpus: TextSource = field(default_factory=TextSource)
    stride: int = 128
    """Tokens by which the window moves when held-out text is scored."""
    sample_tokens: int = 96
    """Tokens of each sample."""
    threads: int = 0
    """Processor threads to compute with; 0 leaves torch's choice."""
    workers: int = 1
    """Processes that clean and encode the text; 0 takes one for each core. What they make does not
    depend on it."""
    time: str = ""
    """How long it takes, and on what; empty where it was not measured."""
    note: str = ""
    """What it needs and what it is for."""

    @property
    def seq_len(self) -> int:
        """Tokens of a training sequence, T."""
        return self.model.max_seq_len

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.train.steps * self.batch_size * self.seq_len

    @property
    def n_parameters(self) -> int:
        """Parameters of the model."""
        return parameters(self.model).total

    def hours(self, flops_per_second: float, utilization: float) -> float:
        """Estimate the hours on one device; divide by the number of devices.

        Args:
            flops_per_second: The device's peak.
            utilization: Share of the peak that training reaches (MFU), 0 to 1.

        Example:
            >>> round(PRESETS["gpu-124m"].hours(989e12, 0.4), 1)  # an H100 at 40%
            1.5
        """
        flops = self.train.steps * decoder_training_flops(self.model, self.batch_size, self.seq_len)
        return run_cost(flops, peak=flops_per_second, utilization=utilization).device_hours

    def describe_time(self) -> str:
        """Say how long the run takes: `time`, or else H100 hours at an assumed MFU, and a price."""
        if self.time:
            return self.time
        hours = self.hours(H100_FLOPS, ASSUMED_MFU)
        price = hours * ASSUMED_PRICE
        return f"estimate: {hours:.1f} H100 hours at {ASSUMED_MFU:.0%} MFU, {price:.0f} USD"

    def with_train(self, **changes: Any) -> "Preset":
        """Return a copy with some fields of `train` changed."""
        return replace(self, train=replace(self.train, **changes))

    def shrunk(self) -> "Preset":
        """Return the same recipe, on the fixed corpus, at a size that runs on a laptop in seconds.

        Every choice (optimizer, schedule's shape, precision, parallelism, tying) stays; only sizes
        change. Tests take the GPU presets' path through it.
        """
        model = self.model.replace(
            vocab_size=512, d_model=32, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=16, d_ff=64,
            max_seq_len=32,
        )  # fmt: skip
        schedule = replace(self.train.schedule, warmup=2, decay=3)
        train = replace(
            self.train, steps=6, schedule=schedule, compile=False, eval_every=3, checkpoint_every=2,
            log_every=1,
        )  # fmt: skip
        corpus = replace(self.corpus, name="fixed", max_bytes=300_000, tokenizer_bytes=300_000)
        return replace(
            self, name=f"{self.name}-shrunk", model=model, train=train, corpus=corpus,
            batch_size=4, micro_batch=2, stride=16, sample_tokens=8, workers=2,
        )  # fmt: skip


LAPTOP = Preset(
    name="laptop",
    model=ModelConfig(
        vocab_size=4096, d_model=256, n_layers=4, n_heads=4, max_seq_len=512, qk_norm=True
    ),
    train=TrainConfig(
        steps=1000,
        optimizer="muon",
        muon_lr=0.02,
        lr=4e-3,
        weight_decay=0.0,
        clip=0.0,
        schedule=Schedule(kind="wsd", warmup=20, decay=500),
        precision="auto",
        eval_every=200,
        checkpoint_seconds=30.0,
        log_every=5,
    ),
    batch_size=8,
    micro_batch=8,
    threads=2,
    time="about 13 min on 2 cores",
    note="Learns the manner of documentation: a look at every stage on a laptop.",
)

TINY = replace(
    LAPTOP,
    name="tiny",
    model=LAPTOP.model.replace(
        vocab_size=1024, d_model=64, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=32, d_ff=192,
        max_seq_len=128,
    ),
    train=replace(
        LAPTOP.train, steps=120, schedule=Schedule(kind="wsd", warmup=6, decay=60), eval_every=60,
        checkpoint_every=10, checkpoint_seconds=0.0, log_every=1, precision="float32",
    ),
    corpus=replace(LAPTOP.corpus, max_bytes=1_000_000),
    stride=64,
    threads=1,
    sample_tokens=32,
    time="under 1 min on 2 cores",
    note="Everything in under a minute, for tests and a first look; too small to write sense.",
)  # fmt: skip

# Twenty tokens a parameter (Hoffmann et al. 2022), in updates of half a million tokens. The Hub
# data set is the educational selection of FineWeb, its sample of ten billion tokens.
_WEB = TextSource(
    name="hub:HuggingFaceFW/fineweb-edu:sample-10BT", max_bytes=12_000_000_000, held_out=0.001,
    kind="web", max_overlap=1.0,
)  # fmt: skip

GPU_124M = Preset(
    name="gpu-124m",
    model=ModelConfig(
        vocab_size=50_304, d_model=768, n_layers=12, n_heads=12, max_seq_len=1024, qk_norm=True
    ),
    train=TrainConfig(
        steps=4_700,
        optimizer="muon",
        muon_lr=0.02,
        lr=3e-3,
        weight_decay=0.0,
        clip=1.0,
        schedule=Schedule(kind="wsd", warmup=100, decay=1_900),
        precision="bfloat16",
        compile=True,
        eval_every=250,
        checkpoint_seconds=600.0,
        log_every=10,
    ),
    batch_size=512,
    micro_batch=32,
    corpus=_WEB,
    stride=512,
    sample_tokens=128,
    workers=0,
    note="One GPU of 80 GB, or several under torchrun. `prepare` readies the text on all cores.",
)

GPU_350M = replace(
    GPU_124M,
    name="gpu-350m",
    model=GPU_124M.model.replace(d_model=1024, n_layers=24, n_heads=16, n_kv_heads=16, d_ff=2752),
    train=replace(
        GPU_124M.train, steps=13_500, muon_lr=0.015, lr=2e-3,
        schedule=Schedule(kind="wsd", warmup=200, decay=5_400),
    ),
    corpus=replace(_WEB, max_bytes=36_000_000_000),
    micro_batch=16,
    note="GPUs of 80 GB under torchrun.",
)  # fmt: skip

PRESETS = {preset.name: preset for preset in (TINY, LAPTOP, GPU_124M, GPU_350M)}


def preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        ValueError: When there is none of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
