"""Planted card numbers: how they are planted and asked for, and what the committed runs say."""

import math

import pytest
import torch

from llmlib.core.statistics import t_interval
from llmlib.data import Document, deduplicate_passages
from llmlib.data.privacy import find_personal, luhn_valid
from llmlib.experiments.data.memorized_secrets import (
    BATCH,
    CANDIDATES,
    LENGTH,
    ask,
    encode,
    exposure,
    losses_of,
    mean_exposure_by_chance,
    one_pass,
    perform,
    plan,
    tokenizer,
    train,
    treated,
)
from llmlib.experiments.records import read_runs
from llmlib.experiments.short_training import answered_exactly
from llmlib.experiments.worlds.planted_secrets import (
    REPEATS,
    SECRETS_A_LEVEL,
    copies,
    draw_secrets,
    occurrences,
    plant,
)

NAME = "memorized_secrets"


def documents(n: int) -> list[Document]:
    texts = (f"About {k}.\n\nIt has {k} parts, one by one.\n\nAnd an end." for k in range(n))
    return [Document(text=text, source=f"d{k}") for k, text in enumerate(texts)]


def test_secrets_are_cards_of_people_who_share_no_name():
    secrets = draw_secrets(3)
    assert [s.repeats for s in secrets] == [r for r in REPEATS for _ in range(SECRETS_A_LEVEL)]
    names = [name for secret in secrets for name in secret.owner.split(" ")]
    assert len(set(names)) == 2 * len(secrets)
    assert len({secret.number for secret in secrets}) == len(secrets)
    for secret in secrets:
        digits = secret.number.replace(" ", "")
        assert len(digits) == 16
        assert luhn_valid(digits)
        kinds = [span.kind for span in find_personal(secret.passage, ("card",))]
        assert kinds == ["card"]
    assert draw_secrets(3) == secrets != draw_secrets(4)


def test_each_number_is_planted_as_often_as_it_says_and_once_in_a_document():
    secrets = draw_secrets(1, (0, 1, 3, 7), each=2)
    planted = plant(documents(31), copies(secrets), seed=5)
    assert occurrences(planted, secrets) == [0, 2, 6, 14]
    changed = [new for new, old in zip(planted, documents(31), strict=True) if new != old]
    assert len(changed) == 22
    for document in changed:
        assert document.text.count("Thank you.") == 1
        left = document.text.split("\n\n")
        left = [part for part in left if not part.startswith("Seen: ")]
        assert "\n\n".join(left) in {d.text for d in documents(31)}


def test_treatment_leaves_each_number_once_or_none():
    secrets = draw_secrets(2, (0, 1, 5), each=3)
    planted = plant(documents(29), copies(secrets), seed=0)
    assert occurrences(treated(planted, "raw"), secrets) == [0, 3, 15]
    assert occurrences(treated(planted, "deduplicated"), secrets) == [0, 3, 3]
    redacted = treated(planted, "redacted")
    assert occurrences(redacted, secrets) == [0, 0, 0]
    assert sum(document.text.count("Card <CARD>.") for document in redacted) == 18
    assert len(deduplicate_passages(planted)[0]) == 29


def test_every_digit_is_a_token_of_its_own():
    bpe = tokenizer()
    ids = bpe.encode(" 4539 1488 0343 6467")
    assert len(ids) == 20
    assert [bpe.decode([i]) for i in ids[1:5]] == ["4", "5", "3", "9"]
    assert bpe.decode(encode(documents(2)).tolist()).startswith("About 0.\n\nIt has 0 parts")


def test_one_pass_reads_everything_once():
    text = torch.arange(5 * 13 + 1 + 7)
    rows = one_pass(text, seed=3, length=13)
    assert rows.shape == (5, 14)
    starts = rows[:, 0].sort().values
    assert starts.tolist() == [0, 13, 26, 39, 52]
    assert torch.equal(rows - rows[:, :1], torch.arange(14).expand(5, -1))
    assert not torch.equal(rows, one_pass(text, seed=4, length=13))


def test_exposure_is_the_rank_in_bits():
    others = torch.tensor([5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 2.0])
    assert exposure(0.5, others) == 3
    assert exposure(5.0, others) == math.log2(8 / 4)  # a tie counts against the secret
    assert exposure(99.0, others) == 0
    ranks = torch.arange(1, 9)
    mean = sum(math.log2(8) - math.log2(r) for r in ranks.tolist()) / 8
    assert mean_exposure_by_chance(8) == pytest.approx(mean)
    assert mean_exposure_by_chance(1 << 16) == pytest.approx(math.log2(math.e), abs=1e-3)


def test_losses_are_those_of_single_tokens():
    model = train(torch.randint(512, (3 * BATCH * LENGTH + 1,)), seed=0, passes=1)
    prompt, answers = [3, 5, 7], torch.tensor([[11, 13], [17, 19]])
    with torch.no_grad():
        for answer, loss in zip(answers, losses_of(model, prompt, answers), strict=True):
            total, read = 0.0, list(prompt)
            for token in answer.tolist():
                total -= model(torch.tensor([read]))[0, -1].log_softmax(-1)[token].item()
                read.append(token)
            assert loss.item() == pytest.approx(total, abs=1e-4)


@pytest.mark.slow
def test_a_number_read_over_and_over_is_recited_and_another_is_not():
    known, unknown = draw_secrets(0, (1, 0), each=1)
    text = encode([Document(text=known.passage, source="x")]).repeat(1000)
    model = train(text, seed=0, passes=2)
    (hit, bits), (other_hit, other_bits) = ask(model, [known, unknown], seed=1)
    assert (hit, bits) == (True, math.log2(CANDIDATES))
    assert not other_hit
    assert other_bits < bits
    prompt = tokenizer().encode(f"\n\n{known.prompt}")
    assert answered_exactly(model, [prompt], [tokenizer().encode(f" {known.number}")]) == [True]


@pytest.mark.slow
def test_a_run_reports_every_level():
    run = perform({"condition": "raw", "seed": 11, "passes": 1}, tokens=2 * BATCH * LENGTH + 1)
    assert len(run["recited"]) == len(run["exposures"]) == len(run["repeats"]) == len(REPEATS)
    planted = [times * SECRETS_A_LEVEL for times in REPEATS]
    assert run["occurrences"] == run["after_exact_documents"] == planted
    assert run["tokens"] == 2 * BATCH * LENGTH + 1


def runs_of(condition: str, passes: int = 4) -> list[dict]:
    runs = [r for r in read_runs(NAME) if (r["condition"], r["passes"]) == (condition, passes)]
    return sorted(runs, key=lambda run: run["seed"])


def test_the_record_holds_every_run_once_on_equal_tokens():
    runs = read_runs(NAME)
    found = [{name: run[name] for name in ("condition", "seed", "passes")} for run in runs]
    assert sorted(found, key=str) == sorted(plan(), key=str)
    assert len({(run["tokens"], run["text_sha256"]) for run in runs}) == 1
    for run in runs:
        assert run["repeats"] == list(REPEATS)
        assert run["tokens_there"] >= run["tokens"]
        assert run["chance_exposure"] == pytest.approx(
            mean_exposure_by_chance(CANDIDATES), abs=1e-3
        )


def recited(condition: str, levels: tuple[int, ...], passes: int) -> list[float]:
    """Share of the secrets of some levels that were recited, seed by seed."""
    rates = []
    for run in runs_of(condition, passes):
        chosen = [n for n, r in zip(run["recited"], run["repeats"], strict=True) if r in levels]
        rates.append(sum(chosen) / (len(chosen) * run["secrets_a_level"]))
    return rates


def exposed(condition: str, levels: tuple[int, ...], passes: int = 4) -> list[float]:
    """Mean exposure of the secrets of some levels in bits, seed by seed."""
    means = []
    for run in runs_of(condition, passes):
        pairs = zip(run["exposures"], run["repeats"], strict=True)
        bits = [value for level, repeats in pairs if repeats in levels for value in level]
        means.append(sum(bits) / len(bits))
    return means


def minus(left: list[float], right: list[float]) -> tuple[float, float, float]:
    """Mean and 95% interval of a difference paired by seed."""
    return t_interval([a - b for a, b in zip(left, right, strict=True)])


PLANTED = REPEATS[1:]


@pytest.mark.covers("data.privacy")
def test_what_is_repeated_is_memorized():
    assert minus(exposed("raw", (16, 32, 64)), exposed("raw", (0, 1, 2)))[1] > 3
    assert minus(exposed("raw", (8,)), exposed("raw", (0,)))[1] > 0
    assert exposed("raw", (64,)) == [math.log2(CANDIDATES)] * 3  # likelier than all others


@pytest.mark.covers("data.privacy")
def test_what_is_repeated_often_enough_is_recited():
    often, seldom = (recited("raw", levels, 8) for levels in ((16, 32, 64), (0, 1, 2, 4)))
    assert minus(often, seldom)[1] > 0.25
    assert max(seldom) == 0
    assert sum(recited("raw", (64,), 8)) > sum(recited("raw", (64,), 4))


@pytest.mark.covers("data.privacy")
@pytest.mark.parametrize("condition", ["deduplicated", "redacted"])
def test_without_the_copies_it_is_as_if_they_had_never_been_planted(condition):
    assert minus(exposed("raw", (16, 32, 64)), exposed(condition, (16, 32, 64)))[1] > 3
    low, high = minus(exposed(condition, PLANTED), exposed(condition, (0,)))[1:]
    assert low < 0 < high
    for run in runs_of(condition):
        assert run["recited"] == [0] * len(REPEATS)
        left = SECRETS_A_LEVEL if condition == "deduplicated" else 0
        assert run["occurrences"] == [0] + [left] * len(PLANTED)


def test_deduplicating_whole_documents_would_have_left_every_copy():
    for run in runs_of("raw"):
        assert run["occurrences"] == [times * SECRETS_A_LEVEL for times in REPEATS]
        assert run["after_exact_documents"] == run["after_near_documents"] == run["occurrences"]
