"""Planted card numbers: how they are planted, cleaned away and asked for."""

import math

import pytest
import torch

from llmlib.data import Document
from llmlib.data.deduplication.passages import deduplicate_passages
from llmlib.data.privacy import find_personal, luhn_valid
from llmlib.evaluation.exact import ExactAnswers, answers_greedily
from llmlib.experiments.data.memorized_secrets import (
    BATCH,
    CANDIDATES,
    LENGTH,
    ask,
    encode,
    exposure,
    losses_of,
    mean_exposure_by_chance,
    measure,
    one_pass,
    read,
    tokenizer,
    train,
    treated,
    write,
)
from llmlib.experiments.worlds.planted_secrets import (
    REPEATS,
    SECRETS_A_LEVEL,
    copies,
    draw_secrets,
    occurrences,
    plant,
)


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
            total, ids = 0.0, list(prompt)
            for token in answer.tolist():
                total -= model(torch.tensor([ids]))[0, -1].log_softmax(-1)[token].item()
                ids.append(token)
            assert loss.item() == pytest.approx(total, abs=1e-4)


def test_a_number_read_over_and_over_is_recited_and_another_is_not():
    known, unknown = draw_secrets(0, (1, 0), each=1)
    text = encode([Document(text=known.passage, source="x")]).repeat(500)
    model = train(text, seed=0, passes=2)
    (hit, bits), (other_hit, other_bits) = ask(model, [known, unknown], seed=1)
    assert (hit, bits) == (True, math.log2(CANDIDATES))
    assert not other_hit
    assert other_bits < bits
    task = ExactAnswers([known.prompt], [known.number])
    assert answers_greedily(model, task, read, write) == [True]


def test_a_run_reports_every_level():
    run = measure({"condition": "raw", "seed": 11, "passes": 1}, tokens=2 * BATCH * LENGTH + 1)
    assert len(run["recited"]) == len(run["exposures"]) == len(run["repeats"]) == len(REPEATS)
    planted = [times * SECRETS_A_LEVEL for times in REPEATS]
    assert run["occurrences"] == run["after_exact_documents"] == planted
    assert run["tokens"] == 2 * BATCH * LENGTH + 1
