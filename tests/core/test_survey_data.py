"""The survey's tables: complete, sourced, sane, and true to the papers.

The expected values below are written from the papers and the survey's printed tables, not from the
files under test.
"""

import math
import re
import string
from collections import Counter
from typing import Any

import pytest

from llmlib.core.resources import resource
from llmlib.core.survey.tables import YearMonth, load_table, table_names

ARXIV = re.compile(r"arXiv:\d{4}\.\d{4,5}\b")
PLACE = r"(section \d+(\.\d+)*|table \d+|table 2 \(the Pile\)|figure 2|change log|front page)"
LINE = r"lines? \d+( to \d+)?|front page"


def parts(cell: str) -> list[str]:
    return cell.split("; ")


def every_row() -> list[tuple[str, Any]]:
    return [(name, row) for name in table_names() for row in load_table(name)]


def rows_from(table: str, place: str, edition: str = "2023-06") -> list[Any]:
    """The rows that a printed table of one edition has."""
    return [
        row
        for row in load_table(table)
        if (edition, place) in zip(parts(row.source_edition), parts(row.source_place), strict=True)
    ]


# --- every table ------------------------------------------------------------------------------


@pytest.mark.covers("intro.resources-models")
@pytest.mark.covers("intro.resources-corpora")
@pytest.mark.covers("intro.resources-instruction-data")
@pytest.mark.parametrize(
    ("table", "place", "edition", "count"),
    [
        ("models", "table 1", "2023-06", 48),  # 21 public, 27 closed
        ("models", "table 1", "Fudan", 35),
        ("corpora", "table 2", "2023-06", 12),
        ("architectures", "table 3", "2023-06", 14),
        ("components", "table 4", "2023-06", 15),
        ("optimization", "table 5", "2023-06", 16),
        ("instruction_collections", "table 6", "2023-06", 10),
        ("libraries", "section 3.3", "2023-06", 13),  # 7 described, 6 frameworks named
        ("apis", "section 3.1", "2023-06", 16),
    ],
)
def test_every_row_of_the_printed_tables_is_there(table: str, place: str, edition: str, count: int):
    assert len(rows_from(table, place, edition)) == count


def test_every_file_is_a_table():
    files = {path.stem for path in resource("survey").glob("*.csv")}
    assert files == set(table_names())


@pytest.mark.covers("intro.timeline")
@pytest.mark.covers("intro.resources-models")
@pytest.mark.covers("intro.resources-corpora")
def test_every_row_names_its_editions_and_a_place_in_each():
    editions = set(load_table("editions").column("key"))
    for table, row in every_row():
        keys, places = parts(row.source_edition), parts(row.source_place)
        assert set(keys) <= editions, (table, row)
        assert len(keys) == len(places), (table, row)
        for key, place in zip(keys, places, strict=True):
            pattern = LINE if key == "2023-11" else PLACE
            assert re.fullmatch(pattern, place), (table, row)


def test_references_are_well_formed():
    for table, row in every_row():
        if row.paper and "arXiv" in row.paper:
            assert ARXIV.search(row.paper), (table, row)
        if row.paper and row.paper.count(" et al. "):
            assert re.search(r" et al\. (19|20)\d\d, \S", row.paper), (table, row)
    for table in (
        "architectures",
        "optimization",
        "mixtures",
        "components",
        "timeline",
        "emergence",
    ):
        assert None not in load_table(table).column("paper"), table


def test_one_paper_has_one_number():
    """The same model is cited alike in all tables."""
    cited = {row.name: row.paper for row in load_table("models")}
    for table in ("architectures", "optimization"):
        for row in load_table(table):
            assert row.paper == cited[row.model], row.model


def test_prose_has_no_stray_space():
    for table, row in every_row():
        for cell in (row.note, getattr(row, "purpose", None), getattr(row, "event", None)):
            if cell:
                assert "  " not in cell and cell == cell.strip(), (table, cell)


# --- models (table 1) -------------------------------------------------------------------------


def test_model_values_are_sane():
    for row in load_table("models"):
        for size in (row.parameters_b, row.public_parameters_b):
            assert size is None or 0.1 <= size <= (10000 if row.name == "M6-10T" else 2000), row
        assert row.release is None or YearMonth("2018") < row.release < YearMonth("2024"), row
        assert row.pretrain_tokens_b is None or 50 <= row.pretrain_tokens_b <= 2000, row
        assert row.pretrain_size_gb is None or 500 <= row.pretrain_size_gb <= 5000, row
        assert row.accelerator_count is None or 50 <= row.accelerator_count <= 10000, row
        assert (row.accelerator is None) == (row.accelerator_count is None), row
        assert row.training_hours is None or 1 <= row.training_hours <= 5000, row
        assert row.data_cutoff is None or (row.release and row.data_cutoff < row.release), row
        assert row.public_parameters_b is None or row.public_parameters_b < (row.parameters_b or 0)


def test_table_1_marks_public_models_and_answers_every_yes_or_no():
    rows = rows_from("models", "table 1")
    assert Counter(row.public for row in rows) == {True: 21, False: 27}
    for row in rows:
        answers = (row.instruction_tuned, row.rlhf, row.eval_icl, row.eval_cot)
        assert None not in answers and row.release is not None, row.name
    # The ticks counted column by column in the printed table.
    assert [row.name for row in rows if row.rlhf] == ["WebGPT", "InstructGPT", "Sparrow", "GPT-4"]
    assert {row.name for row in rows if row.instruction_tuned} == {
        "T0", "Tk-Instruct", "Flan-T5", "mT0", "BLOOMZ", "OPT-IML",
        "FLAN", "InstructGPT", "Flan-PaLM", "Flan-U-PaLM", "GPT-4",
    }  # fmt: skip
    assert {row.name for row in rows if row.eval_cot} == {
        "UL2", "Flan-T5", "Galactica", "OPT-IML",
        "PaLM", "AlexaTM", "U-PaLM", "Flan-PaLM", "Flan-U-PaLM", "GPT-4",
    }  # fmt: skip
    assert {row.name for row in rows if not row.eval_icl} == {
        "CPM-2", "GShard", "LaMDA", "AlphaCode",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "release", "parameters", "tokens", "chips", "count", "days"),
    [
        ("GPT-3", "2020-05", 175, 300, None, None, None),
        ("Chinchilla", "2022-03", 70, 1400, None, None, None),
        ("LLaMA", "2023-02", 65, 1400, "A100 80GB", 2048, 21),
        ("BLOOM", "2022-11", 176, 366, "A100 80GB", 384, 105),
        ("GLM-130B", "2022-10", 130, 400, "A100 40GB", 768, 60),
        ("Gopher", "2021-12", 280, 300, "TPU v3", 4096, 920 / 24),
        ("MT-NLG", "2022-01", 530, 270, "A100 80GB", 4480, None),
        ("PaLM", "2022-04", 540, 780, "TPU v4", 6144, None),
        ("Pythia", "2023-04", 12, 300, "A100 40GB", 256, None),
        ("CodeGeeX", "2022-09", 13, 850, "Ascend 910", 1536, 60),
        ("PanGu-Σ", "2023-03", 1085, 329, "Ascend 910", 512, 100),
        ("LaMDA", "2022-01", 137, 768, "TPU v3", 1024, 57.7),
    ],
)
def test_famous_models(
    name: str,
    release: str,
    parameters: float,
    tokens: float,
    chips: str | None,
    count: int | None,
    days: float | None,
):
    row = load_table("models").row(name)
    assert (row.release, row.parameters_b, row.pretrain_tokens_b) == (release, parameters, tokens)
    assert (row.accelerator, row.accelerator_count) == (chips, count)
    if days is None:
        assert row.training_hours is None
    else:
        assert row.training_hours == pytest.approx(24 * days)


def test_base_models_are_rows_of_an_earlier_date():
    models = load_table("models")
    assert models.row("Flan-U-PaLM").base_model == "U-PaLM"
    for row in models:
        if row.base_model:
            base = models.row(row.base_model)
            assert not (base.release and row.release) or base.release <= row.release, row.name


def test_the_arxiv_number_bears_out_the_release_month():
    """Models appear within two months of their paper; CodeGeeX came half a year before it."""
    for row in rows_from("models", "table 1"):
        found = ARXIV.search(row.paper)
        if found and row.name != "CodeGeeX":
            number = found[0].removeprefix("arXiv:")
            written = YearMonth(f"20{number[:2]}-{number[2:4]}").decimal
            assert abs(written - row.release.decimal) <= 2.1 / 12, row.name


def test_compute_of_the_dense_models_is_plausible():
    """6ND is within what the stated chips can do in the stated time."""
    peak = {"A100 80GB": 312e12, "A100 40GB": 312e12, "A100": 312e12, "TPU v3": 123e12}
    utilization = {}
    for row in rows_from("models", "table 1"):
        known = (row.parameters_b, row.pretrain_tokens_b, row.training_hours, row.accelerator_count)
        if None in known or row.accelerator not in peak or row.name in ("GShard", "LaMDA"):
            continue  # GShard is sparse; LaMDA's note says that its numbers do not fit together
        flops = 6 * row.parameters_b * row.pretrain_tokens_b * 1e18
        seconds = 3600 * row.training_hours * row.accelerator_count
        utilization[row.name] = flops / seconds / peak[row.accelerator]
    assert len(utilization) >= 7
    for name, share in utilization.items():
        assert 0.05 < share < 0.6, (name, share)


# --- architectures (table 3) --------------------------------------------------------------------


def test_architectures_and_settings_agree_with_the_models():
    sizes = {row.name: row.parameters_b for row in load_table("models")}
    contexts = {row.name: row.max_context_tokens for row in load_table("models")}
    for row in load_table("architectures"):
        assert row.parameters_b == sizes[row.model], row.model
        if row.max_context_tokens and contexts[row.model]:
            assert row.max_context_tokens == contexts[row.model], row.model
    for row in load_table("optimization"):
        assert row.parameters_b == sizes[row.model], row.model


def counted_parameters_b(row: Any) -> float:
    """Weights of attention, feed-forward and embeddings, in 10^9."""
    width = row.n_heads * row.head_dim
    attention = 2 * row.d_model * width + 2 * row.d_model * row.n_kv_heads * row.head_dim
    if row.model in ("Gopher", "Chinchilla"):  # Transformer-XL's projection of relative positions
        attention += row.d_model * width
    matrices = 3 if row.activation in ("SwiGLU", "GeGLU") else 2
    feed_forward = matrices * row.d_model * row.d_ff
    layers = row.n_layers * (attention + feed_forward)
    if row.category == "encoder-decoder":
        layers = row.n_layers * (3 * attention + 2 * feed_forward)  # cross-attention is the third
    embeddings = row.vocab_size * row.d_model * (2 if row.tied_embeddings is False else 1)
    return (layers + embeddings) / 1e9


@pytest.mark.parametrize("model", [row.model for row in load_table("architectures")])
def test_dimensions_give_the_published_size(model: str):
    row = load_table("architectures").row(model)
    assert counted_parameters_b(row) == pytest.approx(row.parameters_b, rel=0.03)


def test_head_sizes():
    unusual = {"PaLM": 12288, "LaMDA": 16384, "T5": 16384}  # heads times head size, by the papers
    for row in load_table("architectures"):
        assert row.head_dim is not None and row.n_kv_heads is not None
        assert row.n_heads * row.head_dim == unusual.get(row.model, row.d_model), row.model
        assert row.n_kv_heads == (1 if row.model == "PaLM" else row.n_heads), row.model


@pytest.mark.parametrize(
    ("model", "layers", "heads", "width", "hidden", "norm", "position", "activation", "bias"),
    [
        ("GPT-3", 96, 96, 12288, 49152, "pre LayerNorm", "learned", "GeLU", True),
        ("OPT", 96, 96, 12288, 49152, "pre LayerNorm", "learned", "ReLU", True),
        ("PaLM", 118, 48, 18432, 73728, "pre LayerNorm", "rope", "SwiGLU", False),
        ("BLOOM", 70, 112, 14336, 57344, "pre LayerNorm", "alibi", "GeLU", True),
        ("Chinchilla", 80, 64, 8192, 32768, "pre RMSNorm", "relative", None, None),
        ("LLaMA", 80, 64, 8192, 22016, "pre RMSNorm", "rope", "SwiGLU", False),
        ("GLM-130B", 70, 96, 12288, 32768, "post DeepNorm", "rope", "GeGLU", True),
        ("T5", 24, 128, 1024, 65536, "pre RMSNorm", "relative", "ReLU", False),
        ("Galactica", 96, 80, 10240, 40960, "pre LayerNorm", "learned", "GeLU", False),
    ],
)
def test_famous_architectures(
    model: str,
    layers: int,
    heads: int,
    width: int,
    hidden: int,
    norm: str,
    position: str,
    activation: str | None,
    bias: bool | None,
):
    row = load_table("architectures").row(model)
    assert (row.n_layers, row.n_heads, row.d_model, row.d_ff) == (layers, heads, width, hidden)
    assert f"{row.norm_placement} {row.norm}" == norm
    assert (row.position, row.activation, row.bias) == (position, activation, bias)


# --- optimization (table 5) ---------------------------------------------------------------------


def test_settings_are_sane():
    for row in load_table("optimization"):
        if row.batch_tokens_start is not None:
            assert row.batch_tokens_end is not None
            assert 3e4 <= row.batch_tokens_start <= row.batch_tokens_end <= 1e7, row.model
        assert row.learning_rate is None or 1e-6 <= row.learning_rate <= 1e-2, row.model
        assert row.dropout is None or 0 <= row.dropout < 0.5, row.model
        assert row.grad_clip is None or 0.1 <= row.grad_clip <= 1, row.model
        assert row.weight_decay is None or row.weight_decay_rule is None, row.model
        if row.warmup_steps or row.warmup_tokens_m:
            assert row.warmup, row.model
        assert not (row.warmup and row.hold_steps), row.model
        if row.decay_floor is not None:
            assert row.decay in ("cosine", "linear") and 0 < row.decay_floor < 1, row.model


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("GPT-3", (6e-5, "cosine", "Adam", "FP16", 0.1, 1.0, None)),
        ("OPT", (1.2e-4, "manual", "AdamW", "FP16", 0.1, 1.0, 0.1)),
        ("PaLM", (1e-2, "inverse sqrt", "Adafactor", "BF16", None, 1.0, 0.0)),
        ("BLOOM", (6e-5, "cosine", "Adam", "BF16", 0.1, 1.0, 0.0)),
        ("Gopher", (4e-5, "cosine", "Adam", "BF16", None, 0.25, None)),
        ("Chinchilla", (1e-4, "cosine", "AdamW", "BF16", None, None, None)),
        ("Galactica", (7e-6, "linear", "AdamW", None, 0.1, 1.0, 0.1)),
        ("LLaMA", (1.5e-4, "cosine", "AdamW", None, 0.1, 1.0, None)),
        ("T5", (1e-2, "inverse sqrt", "Adafactor", None, None, None, 0.1)),
    ],
)
def test_famous_settings(model: str, expected: tuple[Any, ...]):
    row = load_table("optimization").row(model)
    shown = (row.learning_rate, row.decay, row.optimizer, row.precision)
    assert (*shown, row.weight_decay, row.grad_clip, row.dropout) == expected


@pytest.mark.parametrize(
    ("model", "sequences", "length"),
    [
        ("MT-NLG", (32, 1920), 2048),
        ("GLM-130B", (192, 4224), 2048),
        ("T5", (2048, 2048), 512),
        ("PaLM", (512, 2048), 2048),
        ("BLOOM", (2048, 2048), 2048),
    ],
)
def test_batches_are_the_papers_sequences(model: str, sequences: tuple[int, int], length: int):
    row = load_table("optimization").row(model)
    assert row.batch_tokens_start == pytest.approx(sequences[0] * length, rel=0.05)
    assert row.batch_tokens_end == pytest.approx(sequences[1] * length, rel=0.05)


# --- corpora and mixtures -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "category", "size_gb", "updated"),
    [
        ("BookCorpus", "Books", 5, "2015-12"),
        ("C4", "CommonCrawl", 800, "2019-04"),
        ("OpenWebText", "Reddit links", 38, "2023-03"),
        ("Wikipedia", "Wikipedia", 21, "2023-03"),
        ("the Pile", "Other", 800, "2020-12"),
        ("ROOTS", "Other", 1600, "2022-06"),
        ("BigQuery", "Code", None, "2023-03"),
    ],
)
def test_famous_corpora(name: str, category: str, size_gb: float | None, updated: str):
    row = load_table("corpora").row(name)
    assert (row.category, row.size_gb, row.last_update) == (category, size_gb, updated)


def test_corpora_are_sane_and_name_models_of_the_table():
    models = set(load_table("models").column("name"))
    for row in load_table("corpora"):
        assert row.size_gb is None or 1 <= row.size_gb <= 40000, row.name
        assert not row.used_by or set(parts(row.used_by)) <= models, row.name


def mixtures() -> list[str]:
    return sorted(set(load_table("mixtures").column("model")))


def test_mixtures_are_of_models_of_the_table():
    assert set(mixtures()) <= set(load_table("models").column("name"))
    assert {"GPT-3", "PaLM", "LLaMA"} <= set(mixtures())


@pytest.mark.covers("intro.resources-corpora")
@pytest.mark.parametrize("model", mixtures())
def test_a_mixture_sums_to_100_within_its_rounding(model: str):
    shares = load_table("mixtures").where(model=model).column("percent")
    assert all(0 < share <= 100 for share in shares)
    digits = max(len(f"{share:.10g}".partition(".")[2]) for share in shares)
    # Each share was rounded to half a unit of its last digit.
    assert abs(sum(shares) - 100) <= 0.5 * 10**-digits * len(shares) + 1e-9
    if sum(shares) != pytest.approx(100):
        assert "sum to" in (load_table("mixtures").where(model=model)[0].note or "")


@pytest.mark.parametrize("model", ["GPT-3", "MT-NLG"])
def test_epochs_follow_from_shares_and_sizes(model: str):
    run = load_table("models").row(model).pretrain_tokens_b
    assert run is not None
    for part in load_table("mixtures").where(model=model):
        assert part.tokens_b and part.epochs
        expected = run * part.percent / 100 / part.tokens_b
        assert part.epochs == pytest.approx(expected, rel=0.25, abs=0.05), part.component


@pytest.mark.covers("intro.resources-corpora")
def test_mixture_totals_are_the_papers():
    table = load_table("mixtures")
    assert sum(part.tokens_b or 0 for part in table.where(model="GPT-3")) == 499
    assert sum(part.tokens_b or 0 for part in table.where(model="MT-NLG")) == pytest.approx(
        339, abs=1
    )
    assert sum(part.tokens_b or 0 for part in table.where(model="Galactica")) == pytest.approx(
        106, abs=1
    )
    assert sum(part.tokens_b or 0 for part in table.where(model="GLaM")) == pytest.approx(
        1600, rel=0.01
    )
    assert sum(part.size_gb or 0 for part in table.where(model="Gopher")) == pytest.approx(
        10500, rel=0.01
    )
    pile = table.where(model="GPT-NeoX-20B")
    assert len(pile) == 22
    assert sum(part.size_gb or 0 for part in pile) == pytest.approx(825.18 * 2**30 / 1e9, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "web", "conversation", "books", "scientific", "code"),
    [  # figure 2, from the paper of each model
        ("PaLM", 31, 50, 14, 0, 5),
        ("LLaMA", 86.5, 2, 4.5, 2.5, 4.5),
        ("GPT-3", 85, 0, 16, 0, 0),
        ("Gopher", 60, 0, 37, 0, 3),
        ("Chinchilla", 56, 0, 40, 0, 4),
        ("LaMDA", 37.5, 50, 0, 0, 12.5),
        ("GLaM", 48, 30, 22, 0, 0),
    ],
)
def test_shares_by_category(
    model: str, web: float, conversation: float, books: float, scientific: float, code: float
):
    shares: Counter[str] = Counter()
    for part in load_table("mixtures").where(model=model):
        shares[part.category] += part.percent  # pyright: ignore[reportArgumentType]
    names = ("web pages", "conversation", "books and news", "scientific", "code")
    assert [shares[name] for name in names] == [web, conversation, books, scientific, code]


# --- instruction data, formulas and the rest ----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "release", "types", "tasks", "examples"),
    [
        ("Natural Instructions", "2021-04", 6, 61, 193_000),
        ("FLAN", "2021-09", 12, 62, 4_400_000),
        ("P3", "2021-10", 13, 267, 12_100_000),
        ("Super-NaturalInstructions", "2022-04", 76, 1616, 5_000_000),
        ("xP3", "2022-11", 17, 85, 81_000_000),
        ("OIG", "2023-03", None, None, 43_000_000),
        ("SHP", None, 18, None, 385_000),
    ],
)
def test_famous_collections(
    name: str, release: str | None, types: int | None, tasks: int | None, examples: int
):
    row = load_table("instruction_collections").row(name)
    assert (row.release, row.task_types, row.tasks, row.examples) == (
        release,
        types,
        tasks,
        examples,
    )


@pytest.mark.covers("intro.resources-instruction-data")
def test_table_6_in_all():
    rows = rows_from("instruction_collections", "table 6")
    assert sum(row.examples for row in rows) == 212_605_000
    assert sum(row.tasks or 0 for row in rows) == 2456


def test_formulas_are_balanced_and_grouped():
    table = load_table("components")
    assert Counter(table.column("group")) == {
        "norm placement": 3,
        "norm": 3,
        "activation": 5,
        "position": 4,
    }
    for row in table:
        assert "$" not in row.latex and "|" not in row.latex
        for left, right in ("{}", "()", "[]"):
            assert row.latex.count(left) == row.latex.count(right), row.name
        for command in re.findall(r"\\[A-Za-z]+|\\.", row.latex):
            assert command[1] in string.ascii_letters + ",", (row.name, command)


def test_the_misprints_are_corrected():
    table = load_table("components")
    norm = table.row("LayerNorm").latex
    assert r"\frac{\mathbf{x}-\mu}{\sigma}" in norm and r"\sqrt{\sigma}" not in norm
    assert "square root of sigma" in (table.row("LayerNorm").note or "")
    assert "1606.08415" in (table.row("GeLU").paper or "")
    assert r"\mathbf{R}_{\theta,j-i}" in table.row("RoPE").latex
    llama = load_table("architectures").row("LLaMA")
    assert llama.bias is False and "ticks biases" in (llama.note or "")


def test_the_rope_formula_is_the_rotation_of_both_sides():
    """(R_i q) . (R_j k) = q . R_(j-i) k, the offset that the table's formula has."""

    def rotate(vector: complex, angle: float) -> complex:
        return vector * complex(math.cos(angle), math.sin(angle))

    def dot(a: complex, b: complex) -> float:
        return (a.conjugate() * b).real

    query, key, theta, i, j = complex(0.3, -1.1), complex(2.0, 0.7), 0.37, 11, 5
    both = dot(rotate(query, i * theta), rotate(key, j * theta))
    assert both == pytest.approx(dot(query, rotate(key, (j - i) * theta)))
    assert both != pytest.approx(dot(query, rotate(key, (i - j) * theta)))


def test_apis_and_libraries():
    apis, libraries = load_table("apis"), load_table("libraries")
    assert apis.where(fine_tunable=True).column("name") == ("ada", "babbage", "curie", "davinci")
    assert Counter(apis.column("family")) == {"GPT-3": 7, "Codex": 1, "GPT-3.5": 4, "GPT-4": 4}
    assert apis.row("davinci").parameters_b == 175
    models = set(load_table("models").column("name"))
    assert all(row.model in models for row in apis if row.model)
    names = set(libraries.column("name"))
    assert {"Transformers", "DeepSpeed", "Megatron-LM", "JAX", "FastMoE", "BMTrain"} <= names
    assert all(row.builds_on in names for row in libraries if row.builds_on)
    assert libraries.row("DeepSpeed").maintainer == "Microsoft"


@pytest.mark.covers("intro.timeline")
def test_the_timeline_runs_forward_and_agrees_with_the_models():
    timeline = load_table("timeline")
    dates = timeline.column("date")
    assert list(dates) == sorted(dates)
    models = {row.name: row for row in load_table("models")}
    for event in timeline.where(kind="model"):
        if event.name in models and models[event.name].release != event.date:
            assert "table 1" in (event.note or ""), event.name
    known = {event.name: event.date for event in timeline}
    assert known["Transformer"] == "2017-06"
    assert known["PPO"] == "2017-07"
    assert known["GPT-1"] == "2018-06"
    assert known["BERT"] == "2018-10"
    assert known["GPT-3"] == "2020-05"
    assert known["ChatGPT"] == "2022-11"
    assert known["GPT-4"] == "2023-03"


@pytest.mark.covers("scaling.emergent-three")
def test_emergence_covers_the_three_abilities():
    table = load_table("emergence")
    assert set(Counter(table.column("ability")).values()) == {2, 3, 7}
    models = set(load_table("models").column("name"))
    assert set(table.column("model")) <= models
    arithmetic = table.where(task="addition and subtraction of 3 digits")
    assert [(r.model, r.parameters_b, r.training_flops) for r in arithmetic] == [
        ("GPT-3", 13, 2e22),
        ("LaMDA", 68, 1e23),
    ]
    # An ability seen at one size of a model is not missed at a larger one.
    for seen in table.where(shown=True):
        for missed in table.where(shown=False, task=seen.task, model=seen.model):
            assert missed.parameters_b < seen.parameters_b
