"""What one row of each survey table holds: names, types, units and allowed values of its columns.

Each class is the schema of one file below `data/survey`: its fields are the file's columns, in
order, and their annotations say how a cell is read and checked. An optional field is empty where
the survey gives no value. `llmlib.core.survey.tables` reads the files.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

MONTHS_IN_A_YEAR = 12

Value = str | int | float | bool | None
"""What a cell may hold."""


class YearMonth(str):
    """A year, or a year and month, written `2020` or `2020-05`; sorts in time.

    Example:
        >>> YearMonth("2020-04").decimal
        2020.25
    """

    def __new__(cls, text: str) -> "YearMonth":  # noqa: D102 - the class says it
        year, hyphen, month = text.partition("-")
        valid = len(year) == 4 and year.isdecimal()
        if hyphen:
            valid &= len(month) == 2 and month.isdecimal() and 1 <= int(month) <= MONTHS_IN_A_YEAR
        if not valid:
            raise ValueError(f"write a date as YYYY or YYYY-MM, not {text!r}")
        return super().__new__(cls, text)

    @property
    def year(self) -> int:
        """The calendar year."""
        return int(self[:4])

    @property
    def month(self) -> int | None:
        """The month from 1 to 12; None where only the year is known."""
        return int(self[5:]) if len(self) > 4 else None

    @property
    def decimal(self) -> float:
        """The start of the month (or year) as a decimal year, for the axis of a figure."""
        return self.year + ((self.month or 1) - 1) / MONTHS_IN_A_YEAR


@dataclass(frozen=True, kw_only=True)
class Row:
    """The columns that end every table: where the row comes from.

    `source_edition` holds keys of the table `editions` and `source_place` the table, section or
    line in each, both separated by "; ". `note` says what the survey printed where the value here
    differs, and which other publication a value comes from.
    """

    KEY: ClassVar[tuple[str, ...]] = ("name",)

    paper: str | None
    source_edition: str
    source_place: str
    note: str | None


@dataclass(frozen=True, kw_only=True)
class Model(Row):
    """A language model: the survey's table 1, and models that the other texts list.

    Sizes are in 10^9 parameters (all experts of a sparse model), data in 10^9 tokens or GB.
    `public` says whether table 1 counts the checkpoint as public; `access` is the other survey's.
    """

    name: str
    organisation: str
    country: str | None
    release: YearMonth | None
    parameters_b: float | None
    public_parameters_b: float | None
    base_model: str | None
    instruction_tuned: bool | None
    rlhf: bool | None
    pretrain_tokens_b: float | None
    pretrain_size_gb: float | None
    data_cutoff: YearMonth | None
    accelerator: str | None
    accelerator_count: int | None
    training_hours: float | None
    eval_icl: bool | None
    eval_cot: bool | None
    public: bool | None
    modality: Literal["text", "code", "text; image"] | None
    max_context_tokens: int | None
    access: Literal["API", "restricted", "open"] | None


@dataclass(frozen=True, kw_only=True)
class Corpus(Row):
    """A pre-training corpus: the survey's table 2 and its section 3.2. `used_by` names models."""

    name: str
    category: Literal["Books", "CommonCrawl", "Reddit links", "Wikipedia", "Code", "Other"]
    size_gb: float | None
    last_update: YearMonth | None
    items: int | None
    public: bool
    used_by: str | None


@dataclass(frozen=True, kw_only=True)
class MixtureComponent(Row):
    """One source of a model's pre-training mixture; `percent` is its share of the tokens seen.

    `tokens_b` and `size_gb` are the source's own size, `epochs` how often it is read in training.
    """

    KEY: ClassVar[tuple[str, ...]] = ("model", "component")

    model: str
    component: str
    category: Literal["web pages", "conversation", "books and news", "scientific", "code", "other"]
    percent: float
    tokens_b: float | None
    size_gb: float | None
    epochs: float | None


@dataclass(frozen=True, kw_only=True)
class Architecture(Row):
    """A published configuration: the survey's table 3, and from `n_kv_heads` on the papers."""

    KEY: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    category: Literal["causal decoder", "prefix decoder", "encoder-decoder"]
    parameters_b: float
    norm_placement: Literal["pre", "post"] | None
    norm: Literal["LayerNorm", "RMSNorm", "DeepNorm"] | None
    position: Literal["learned", "relative", "rope", "alibi"] | None
    activation: Literal["ReLU", "GeLU", "SwiGLU", "GeGLU"] | None
    bias: bool | None
    n_layers: int
    n_heads: int
    d_model: int
    max_context_tokens: int | None
    n_kv_heads: int | None
    head_dim: int | None
    d_ff: int | None
    vocab_size: int | None
    tied_embeddings: bool | None


@dataclass(frozen=True, kw_only=True)
class OptimizationSetting(Row):
    """How a model was trained: the survey's table 5; schedule lengths are from the papers.

    A batch is counted in tokens; a constant one has the same start and end. The rate rises for
    `warmup_steps` or `warmup_tokens_m` (10^6), or stays for `hold_steps`, then decays over
    `decay_tokens_b` (10^9) to `decay_floor` times `learning_rate`, its highest value.
    """

    KEY: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    parameters_b: float
    batch_tokens_start: int | None
    batch_tokens_end: int | None
    learning_rate: float | None
    warmup: bool | None
    warmup_steps: int | None
    warmup_tokens_m: float | None
    hold_steps: int | None
    decay: Literal["cosine", "linear", "inverse sqrt", "manual"] | None
    decay_floor: float | None
    decay_tokens_b: float | None
    optimizer: Literal["Adam", "AdamW", "Adafactor"] | None
    precision: Literal["FP16", "BF16"] | None
    weight_decay: float | None
    weight_decay_rule: Literal["lr^2"] | None
    grad_clip: float | None
    dropout: float | None


@dataclass(frozen=True, kw_only=True)
class InstructionCollection(Row):
    """Data for instruction tuning (the survey's table 6) or alignment."""

    name: str
    kind: Literal["NLP tasks", "collection", "daily chat", "synthetic", "preference"]
    release: YearMonth | None
    task_types: int | None
    tasks: int | None
    examples: int | None


@dataclass(frozen=True, kw_only=True)
class Component(Row):
    """A formula of the survey's table 4, corrected, as LaTeX without dollar signs."""

    group: Literal["norm placement", "norm", "activation", "position"]
    name: str
    latex: str


@dataclass(frozen=True, kw_only=True)
class Library(Row):
    """A library for working with language models: the survey's section 3.3 and later mentions."""

    name: str
    maintainer: str
    kind: Literal[
        "models", "framework", "training", "fine-tuning", "alignment", "inference", "data"
    ]
    purpose: str
    builds_on: str | None


@dataclass(frozen=True, kw_only=True)
class Api(Row):
    """An interface that OpenAI offered in June 2023, and the model behind it where stated."""

    name: str
    family: Literal["GPT-3", "Codex", "GPT-3.5", "GPT-4"]
    model: str | None
    parameters_b: float | None
    fine_tunable: bool | None


@dataclass(frozen=True, kw_only=True)
class Milestone(Row):
    """An event of the texts' histories; the table `models` has the dates of the other models."""

    KEY: ClassVar[tuple[str, ...]] = ("date", "name")

    date: YearMonth
    name: str
    kind: Literal["model", "method", "report"]
    organisation: str
    event: str


@dataclass(frozen=True, kw_only=True)
class EmergentAbility(Row):
    """A size at which an ability was seen (`shown`) or missed; compute is in FLOPs."""

    KEY: ClassVar[tuple[str, ...]] = ("ability", "task", "model", "parameters_b")

    ability: Literal["in-context learning", "instruction following", "step-by-step reasoning"]
    task: str
    model: str
    parameters_b: float
    training_flops: float | None
    shown: bool


@dataclass(frozen=True, kw_only=True)
class Edition(Row):
    """A text that the tables were made from; `key` stands in their `source_edition` columns."""

    KEY: ClassVar[tuple[str, ...]] = ("key",)

    key: str
    title: str
    authors: str
    date: YearMonth
    language: Literal["English", "Chinese"]
    text: str


SCHEMAS: dict[str, type[Row]] = {
    "apis": Api,
    "architectures": Architecture,
    "components": Component,
    "corpora": Corpus,
    "editions": Edition,
    "emergence": EmergentAbility,
    "instruction_collections": InstructionCollection,
    "libraries": Library,
    "mixtures": MixtureComponent,
    "models": Model,
    "optimization": OptimizationSetting,
    "timeline": Milestone,
}
"""The tables by name, each with the class of its rows."""
