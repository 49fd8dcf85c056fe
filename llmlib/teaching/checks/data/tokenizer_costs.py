"""Checks of the exercises of chapters/03_data/07_what_a_tokenizer_costs.ipynb."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/07_what_a_tokenizer_costs"

Encode = Callable[[str], Sequence[int]]
Messages = Mapping[str, Sequence[str]]
Sizes = Mapping[int, float]

# Groups from the right


def _digit_groups(digits: str, size: int) -> list[str]:
    first = len(digits) % size
    groups = [digits[:first]] if first else []
    return groups + [digits[i : i + size] for i in range(first, len(digits), size)]


def _thousands_in_groups(answer: Any) -> None:
    for digits in ("1234", "12345", "1234567"):
        right.agree(answer, digits, 3)


def _a_number_that(answer: Any) -> None:
    right.agree(answer, "123456", 3)
    right.agree(answer, "1234", 2)


def _a_number_shorter(answer: Any) -> None:
    right.agree(answer, "12", 3)
    right.agree(answer, "1000000", 3)
    right.agree(answer, "1050", 1)


def _empty_first(digits: str, size: int) -> list[str]:
    first = len(digits) % size
    return [digits[:first]] + [digits[i : i + size] for i in range(first, len(digits), size)]


right = Exercise(
    "digit_groups",
    title="a number in groups from the right",
    reference=_digit_groups,
    hints=(
        "How long is the first group? What is left when the length is divided by the size.",
        "If nothing is left, there is no shorter group: begin with a whole one.",
    ),
    cases={
        "thousands in groups of three": _thousands_in_groups,
        "a number that the groups divide": _a_number_that,
        "a number shorter than a group, zeros inside, and groups of one": _a_number_shorter,
    },
    mistakes={
        "those are groups from the left: the short group belongs in front": lambda digits, size: [
            digits[i : i + size] for i in range(0, len(digits), size)
        ],
        "the groups come out last first: return them in reading order": lambda digits, size: (
            _digit_groups(digits, size)[::-1]
        ),
        (
            "the digits inside the groups are backwards: turn the number back after cutting"
        ): lambda digits, size: [digits[::-1][i : i + size] for i in range(0, len(digits), size)][
            ::-1
        ],
        "there is an empty group in front where the length is a multiple of the size": _empty_first,
        (
            "the groups are numbers and have lost their leading zeros: keep strings"
        ): lambda digits, size: [str(int(group)) for group in _digit_groups(digits, size)],
    },
)


# Premiums


def _letters(text: str) -> list[int]:
    return list(text.encode())


def _words(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def _tokens(messages: Messages, encode: Encode) -> dict[str, int]:
    return {code: sum(len(encode(text)) for text in texts) for code, texts in messages.items()}


def _premiums(messages: Messages, encode: Encode) -> dict[str, float]:
    tokens = _tokens(messages, encode)
    return {code: n / tokens["en"] for code, n in tokens.items()}


_SAME: Messages = {
    "zh": ["好", "密码已过期,请重新登录。"],
    "en": ["OK", "Your password has expired, please log in again."],
    "de": ["Gut", "Ihr Passwort ist abgelaufen, bitte melden Sie sich neu an."],
}


def _mean_of_ratios(messages: Messages, encode: Encode) -> dict[str, float]:
    base = [len(encode(text)) for text in messages["en"]]
    return {
        code: sum(len(encode(text)) / n for text, n in zip(texts, base, strict=True)) / len(base)
        for code, texts in messages.items()
    }


def _by_character(messages: Messages, encode: Encode) -> dict[str, float]:
    tokens = _tokens(messages, encode)
    rates = {code: tokens[code] / sum(map(len, texts)) for code, texts in messages.items()}
    return {code: rate / rates["en"] for code, rate in rates.items()}


premium = Exercise(
    "premiums",
    title="what the same messages cost in each language",
    points=2,
    reference=_premiums,
    hints=(
        "Count all tokens of a language first, then divide once.",
        "A mean of the ratios of single messages lets a message of two words count as much as "
        "one of twenty.",
    ),
    cases={
        "two messages, a token a byte": args(_SAME, _letters),
        "a token a word": args({code: _SAME[code] for code in ("de", "en")}, _words),
        "one language": args({"en": ["a b", "c"]}, _words),
    },
    mistakes={
        (
            "you averaged the ratios of single messages: add up the tokens, then divide"
        ): _mean_of_ratios,
        (
            "English is what the others are divided by: the ratio is upside down"
        ): lambda messages, encode: {
            code: 1 / ratio for code, ratio in _premiums(messages, encode).items()
        },
        (
            "you compared tokens a character: the messages say the same, compare their tokens"
        ): _by_character,
        (
            "you counted characters: pass each text to `encode` and count the ids"
        ): lambda messages, encode: _premiums(messages, lambda text: [ord(c) for c in text]),
        "English has a premium too, 1: keep its key": lambda messages, encode: {
            code: n for code, n in _premiums(messages, encode).items() if code != "en"
        },
    },
)


# The cheapest list


def _fits(size: int, layers: float, d: int, tied: bool, budget: float | None) -> bool:
    return budget is None or layers + (1 if tied else 2) * d * size <= budget


def _best_vocabulary(
    tokens_per_byte: Sizes, layers: float, d: int, tied: bool = True, budget: float | None = None
) -> int | None:
    sizes = [size for size in tokens_per_byte if _fits(size, layers, d, tied, budget)]
    return min(sizes, key=lambda V: (layers + d * V) * tokens_per_byte[V], default=None)


_ENGLISH: Sizes = {1000: 0.47, 2000: 0.38, 4000: 0.31, 8000: 0.265, 16000: 0.24}


def _the_models_of(answer: Any) -> None:
    for layers, d in ((0.2e6, 64), (3e6, 256), (106e6, 576)):
        best.agree(answer, _ENGLISH, layers, d)


def _two_matrices_no(answer: Any) -> None:
    best.agree(answer, _ENGLISH, 3e6, 256, tied=False)
    best.agree(answer, _ENGLISH, 12e6, 512, tied=False)


def _a_budget_that(answer: Any) -> None:
    best.agree(answer, _ENGLISH, 106e6, 576, tied=True, budget=109e6)
    best.agree(answer, _ENGLISH, 106e6, 576, tied=False, budget=109e6)


def _shortest_rows(
    tokens_per_byte: Sizes, layers: float, d: int, tied: bool = True, budget: float | None = None
) -> int | None:
    sizes = [size for size in tokens_per_byte if _fits(size, layers, d, tied, budget)]
    return min(sizes, key=lambda V: tokens_per_byte[V], default=None)


def _a_token(
    tokens_per_byte: Sizes, layers: float, d: int, tied: bool = True, budget: float | None = None
) -> int | None:
    sizes = [size for size in tokens_per_byte if _fits(size, layers, d, tied, budget)]
    return min(sizes, key=lambda V: layers + d * V, default=None)


def _look_up_as_work(
    tokens_per_byte: Sizes, layers: float, d: int, tied: bool = True, budget: float | None = None
) -> int | None:
    sizes = [size for size in tokens_per_byte if _fits(size, layers, d, tied, budget)]
    n = 1 if tied else 2
    return min(sizes, key=lambda V: (layers + n * d * V) * tokens_per_byte[V], default=None)


best = Exercise(
    "best_vocabulary",
    title="the size of the list that costs least work a byte",
    points=3,
    reference=_best_vocabulary,
    hints=(
        "The work a byte is proportional to (layers + d * V) * tokens_per_byte[V]; the 2 does not "
        "change which is least.",
        "`tied` changes how many parameters there are, and so what fits `budget`; the work is the "
        "same, because the entrance is a look-up.",
        "Filter the sizes by the budget first; min(..., default=None) covers an empty list.",
    ),
    cases={
        "the models of the section": _the_models_of,
        "two matrices, no budget": _two_matrices_no,
        "a budget that rules out the cheapest size": _a_budget_that,
        "a budget that nothing fits": args(_ENGLISH, 106e6, 576, tied=True, budget=106e6),
    },
    mistakes={
        "the shortest rows are not the least work: a long list has its own price": _shortest_rows,
        "you counted the work of a token: multiply by the tokens that a byte takes": _a_token,
        (
            "the entrance is a look-up and no work, even where it has a matrix of its own"
        ): _look_up_as_work,
        (
            "the budget is for the whole model: two matrices count where they are not tied"
        ): lambda tokens_per_byte, layers, d, tied=True, budget=None: _best_vocabulary(
            tokens_per_byte, layers, d, True, budget
        ),
        "a size beyond the budget must not be chosen": lambda tokens_per_byte, layers, d, tied=True, budget=None: (
            _best_vocabulary(tokens_per_byte, layers, d, tied)
        ),
    },
)
