"""What a speed run may change, and where it starts: nanoGPT's defaults at a small size."""

from dataclasses import dataclass
from typing import Any, Literal

from llmlib.architecture.config import ModelConfig
from llmlib.training.optimizers.schedules import Kind, Schedule

VOCAB_SIZE, LENGTH = 4096, 256


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model and all that trains it but the seed and the number of steps.

    The defaults are those of nanoGPT's `train.py` (GPT-2's architecture without biases, AdamW,
    cosine to a tenth), nothing tuned. Only its warm-up of 2,000 steps in 600,000 and its batch of
    half a million tokens cannot be kept at this length.
    """

    norm: Literal["rms", "layer"] = "layer"
    position: Literal["rope", "learned"] = "learned"
    activation: Literal["gelu", "swiglu", "relu_squared"] = "gelu"
    qk_norm: bool = False
    d_model: int = 192
    n_layers: int = 4
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 6e-4
    newton_steps: int = 5
    weight_decay: float = 0.1
    clip: float = 1.0
    schedule: Kind = "cosine"
    warmup: float = 0.02
    """Share of the steps."""
    final: float = 0.1
    decay: float = 0.5
    """Share of the steps in which `wsd` falls."""
    batch: int = 8
    """Windows in an update."""
    ramp: tuple[tuple[float, int, int], ...] | list[list[float]] = ()
    """Stretches of other batches: up to which share of the run, windows, and their length."""

    @property
    def model_config(self) -> ModelConfig:
        return ModelConfig(
            vocab_size=VOCAB_SIZE,
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.d_model // 64,
            max_seq_len=LENGTH,
            norm=self.norm,
            position=self.position,
            activation=self.activation,
            qk_norm=self.qk_norm,
            tie_embeddings=True,
        )

    def schedule_of(self, steps: int) -> Schedule:
        """The rate's course over a run."""
        falls = round(self.decay * steps) if self.schedule == "wsd" else 0
        warmup = round(self.warmup * steps)
        return Schedule(kind=self.schedule, warmup=warmup, final=self.final, decay=falls)

    def stretches(self, steps: int) -> list[tuple[int, int, int]]:
        """Cut a run into stretches of equal batches: steps, windows, tokens a window."""
        ends = [(round(share * steps), int(b), int(length)) for share, b, length in self.ramp]
        ends.append((steps, self.batch, LENGTH))
        starts = [0, *(end for end, _, _ in ends)]
        return [(end - start, b, t) for start, (end, b, t) in zip(starts, ends, strict=False)]


def recipe_of(changes: dict[str, Any]) -> Recipe:
    """Read a recipe from a record's line, which says what differs from the defaults."""
    return Recipe(**changes)
