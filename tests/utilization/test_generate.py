"""Generation: the same with and without a cache, alone and in a batch; stops, streams, errors."""

from typing import Any

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.utilization import GREEDY, Sampling, generate, stream

PROMPTS = [[3, 1, 4, 1, 5, 9, 2], [6], [5, 3, 5], [8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2]]
NEW = 13


def make(**fields: Any) -> Transformer:
    torch.manual_seed(5)
    config = ModelConfig(
        vocab_size=53, d_model=24, n_layers=3, n_heads=4, n_kv_heads=2, max_seq_len=31,
        init_std=0.3, **fields,
    )  # fmt: skip
    return Transformer(config)


@pytest.fixture(params=["rope", "learned", "none"])
def model(request: pytest.FixtureRequest) -> Transformer:
    return make(position=request.param)


@torch.no_grad()
def naive_greedy(model: Transformer, prompt: list[int], n: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_is_the_naive_loop_alone_and_in_a_batch(model: Transformer, use_cache: bool) -> None:
    expected = [naive_greedy(model, prompt, NEW) for prompt in PROMPTS]
    options: dict[str, Any] = {
        "max_new_tokens": NEW, "sampling": GREEDY, "use_cache": use_cache,
    }  # fmt: skip
    assert generate(model, PROMPTS, **options) == expected
    assert [generate(model, [prompt], **options)[0] for prompt in PROMPTS] == expected
    assert len({tuple(row) for row in expected}) == len(PROMPTS), "the rows differ"


@pytest.mark.slow
@pytest.mark.parametrize("mixer", ["s4", "retnet", "hyena", "mamba", "rwkv"])
def test_a_model_with_a_state_reads_rows_of_equal_length_together(mixer: str) -> None:
    norms = {"norm": "layer", "norm_bias": True} if mixer == "rwkv" else {}
    stateful = make(mixer=mixer, **norms)
    prompts = [*PROMPTS, [4, 4, 2]]
    expected = [naive_greedy(stateful, prompt, NEW) for prompt in prompts]
    assert generate(stateful, prompts, max_new_tokens=NEW, sampling=GREEDY) == expected
    drawn = generate(stateful, prompts, max_new_tokens=NEW, seed=7)
    alone = [
        generate(stateful, [p], max_new_tokens=NEW, seed=7 + i)[0] for i, p in enumerate(prompts)
    ]
    assert drawn == alone
    assert list(stream(stateful, prompts[4], max_new_tokens=NEW, seed=11)) == alone[4]


@pytest.mark.parametrize("use_cache", [True, False])
def test_rows_that_finish_leave_and_the_others_go_on(model: Transformer, use_cache: bool) -> None:
    whole = generate(model, PROMPTS, max_new_tokens=NEW, sampling=GREEDY)
    stops = {whole[0][2], whole[2][5]}
    expected = []
    for row in whole:
        end = next((i for i, token in enumerate(row) if token in stops), NEW)
        expected.append(row[:end])
    got = generate(
        model, PROMPTS, max_new_tokens=NEW, sampling=GREEDY, stop_tokens=stops, use_cache=use_cache
    )
    assert got == expected
    assert len(got[0]) <= 2
    assert max(map(len, got)) > min(map(len, got))


def test_a_finished_row_is_no_longer_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    whole = generate(model, PROMPTS, max_new_tokens=NEW, sampling=GREEDY)
    stop = whole[1][0]
    rows_left = [sum(stop not in row[: step + 1] for row in whole) for step in range(NEW)]
    sizes = []
    hidden = model.hidden

    def spy(tokens: torch.Tensor, **options: Any) -> torch.Tensor:
        sizes.append(tokens.shape[0])
        return hidden(tokens, **options)

    monkeypatch.setattr(model, "hidden", spy)
    generate(model, PROMPTS, max_new_tokens=NEW, sampling=GREEDY, stop_tokens=[stop])
    assert sizes == [4, *(n for n in rows_left[:-1] if n)]


def test_a_row_that_stops_at_once_is_empty() -> None:
    model = make()
    first = generate(model, [[6]], max_new_tokens=1, sampling=GREEDY)[0][0]
    assert generate(model, [[6]], max_new_tokens=5, sampling=GREEDY, stop_tokens=[first]) == [[]]


def test_a_rows_sample_depends_on_its_own_seed_alone(model: Transformer) -> None:
    sampling = Sampling(temperature=1.3, top_k=17, top_p=0.95)
    batch = generate(model, PROMPTS, max_new_tokens=NEW, sampling=sampling, seed=40)
    for row, prompt in enumerate(PROMPTS):
        alone = generate(model, [prompt], max_new_tokens=NEW, sampling=sampling, seed=40 + row)
        assert alone == [batch[row]]
    turned = generate(
        model, PROMPTS[::-1], max_new_tokens=NEW, sampling=sampling, seed=[43, 42, 41, 40]
    )
    assert turned == batch[::-1]
    without = generate(
        model, PROMPTS, max_new_tokens=NEW, sampling=sampling, seed=40, use_cache=False
    )
    assert without == batch
    again = generate(model, [[6], [6]], max_new_tokens=NEW, sampling=sampling, seed=0)
    assert again[0] != again[1], "equal prompts get different samples"


def test_a_row_keeps_its_numbers_when_others_finish() -> None:
    model = make()
    whole = generate(model, PROMPTS, max_new_tokens=NEW, seed=40)
    stop = whole[0][1]
    expected = [row[: row.index(stop)] if stop in row else row for row in whole]
    assert len(expected[0]) <= 1
    assert max(map(len, expected)) > 2
    got = generate(model, PROMPTS, max_new_tokens=NEW, seed=40, stop_tokens=[stop])
    assert got == expected


def test_without_a_seed_the_global_generator_decides() -> None:
    model = make()
    torch.manual_seed(1)
    one = generate(model, [[6]], max_new_tokens=NEW)
    two = generate(model, [[6]], max_new_tokens=NEW)
    torch.manual_seed(1)
    assert generate(model, [[6]], max_new_tokens=NEW) == one
    assert one != two


@torch.no_grad()
def test_samples_follow_the_models_distribution() -> None:
    model = make()
    n = 4001
    firsts = generate(model, [[6, 1]] * n, max_new_tokens=1, seed=9)
    counts = torch.tensor([row[0] for row in firsts]).bincount(minlength=53)
    expected = model(torch.tensor([[6, 1]]))[0, -1].softmax(-1) * n
    common = expected > 5
    chi_square = ((counts - expected)[common] ** 2 / expected[common]).sum().item()
    degrees = int(common.sum()) - 1
    assert degrees >= 10
    assert chi_square < degrees + 4 * (2 * degrees) ** 0.5  # four standard deviations


def test_streams_give_what_generate_returns() -> None:
    model = make().train()
    sampling = Sampling(temperature=0.8)
    called: list[tuple[int, int]] = []
    batch = generate(
        model, PROMPTS, max_new_tokens=NEW, sampling=sampling, seed=3,
        on_token=lambda row, token: called.append((row, token)),
    )  # fmt: skip
    assert [[token for row, token in called if row == wanted] for wanted in range(4)] == batch
    assert [row for row, _ in called[:4]] == [0, 1, 2, 3], "a step's tokens come together"
    tokens = stream(model, PROMPTS[2], max_new_tokens=NEW, sampling=sampling, seed=5)
    first = next(tokens)
    assert not torch.is_inference_mode_enabled(), "nothing leaks out between tokens"
    assert [first, *tokens] == batch[2]
    assert model.training


def test_modes_are_restored_and_dropout_is_off() -> None:
    model = make(dropout=0.5).train()
    one = generate(model, [[6]], max_new_tokens=NEW, sampling=GREEDY)
    assert one == generate(model, [[6]], max_new_tokens=NEW, sampling=GREEDY)
    assert model.training
    tokens = stream(model, [6], max_new_tokens=NEW)
    next(tokens)
    del tokens  # an abandoned stream puts the mode back too
    assert model.training


def test_the_last_position_of_the_model_is_used() -> None:
    model = make()
    assert len(generate(model, [[6] * 18], max_new_tokens=13)[0]) == 13
    assert generate(model, [], max_new_tokens=13) == []


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1] * 19], {}, "19 tokens and max_new_tokens is 13.*max_seq_len of 31"),
        ([[53]], {}, "ids outside 0..52"),
        ([[-1]], {}, "ids outside 0..52"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ([[1]], {"stop_tokens": [53]}, "stop_tokens must lie in"),
        ([[1]], {"seed": [1, 2]}, "one for each of 1 prompts"),
    ],
)
def test_bad_input_is_named(
    prompts: list[list[int]], options: dict[str, Any], message: str
) -> None:
    model = make()
    with pytest.raises(ValueError, match=message):
        generate(model, prompts, **{"max_new_tokens": NEW, **options})


def test_stream_checks_at_the_call() -> None:
    with pytest.raises(ValueError, match="is empty"):
        stream(make(), [], max_new_tokens=3)


def test_a_temperature_divides_in_float32_whatever_the_model_computes_in():
    model = make(position="rope").bfloat16().eval()
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "llmlib.utilization.generation.choose",
            lambda logits, *rest: seen.append(logits.dtype) or logits.argmax(-1),
        )
        generate(model, PROMPTS, max_new_tokens=2, sampling=Sampling(temperature=0.7))
    assert set(seen) == {torch.float32}
