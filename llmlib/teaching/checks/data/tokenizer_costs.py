"""Checks of the exercises of chapters/03_data/07_what_a_tokenizer_costs.ipynb."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/07_what_a_tokenizer_costs"

Encode = Callable[[str], Sequence[int]]
Messages = Mapping[str, Sequence[str]]
Sizes = Mapping[int, float]

# Groups from the right


def _cut(digits: str, size: int, first: int = 0) -> list[str]:
    return [digits[i : i + size] for i in range(first, len(digits), size)]


def _digit_groups(digits: str, size: int) -> list[str]:
    first = len(digits) % size
    return ([digits[:first]] if first else []) + _cut(digits, size, first)


right = Exercise(
    "digit_groups",
    title="a number in groups from the right",
    reference=_digit_groups,
    hints=(
        "How long is the first group? What is left when the length is divided by the size.",
        "If nothing is left, there is no shorter group: begin with a whole one.",
    ),
    cases={
        "thousands in groups of three": [args("1234", 3), args("12345", 3), args("1234567", 3)],
        "a number that the groups divide": [args("123456", 3), args("1234", 2)],
        "a number shorter than a group, zeros inside, and groups of one": [
            args("12", 3),
            args("1000000", 3),
            args("1050", 1),
            args("", 3),
        ],
    },
    mistakes={
        "those are groups from the left: the short group belongs in front": _cut,
        "the groups come out last first: return them in reading order": (
            lambda digits, size: _digit_groups(digits, size)[::-1]
        ),
        "the digits inside the groups are backwards: turn the number back after cutting": (
            lambda digits, size: _cut(digits[::-1], size)[::-1]
        ),
        "there is an empty group in front where the length is a multiple of the size": (
            lambda digits, size: [
                digits[: len(digits) % size],
                *_cut(digits, size, len(digits) % size),
            ]
        ),
        "the groups are numbers and have lost their leading zeros: keep strings": (
            lambda digits, size: [str(int(group)) for group in _digit_groups(digits, size)]
        ),
    },
)


# Premiums


def _bytes(text: str) -> list[int]:
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


language_premium = Exercise(
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
        "two messages, a token a byte": args(_SAME, _bytes),
        "a token a word": args({code: _SAME[code] for code in ("de", "en")}, _words),
        "one language": args({"en": ["a b", "c"]}, _words),
    },
    mistakes={
        "you averaged ratios of single messages: add up the tokens, then divide": _mean_of_ratios,
        "English is what the others are divided by: the ratio is upside down": lambda *inputs: {
            code: 1 / ratio for code, ratio in _premiums(*inputs).items()
        },
        "you compared tokens a character: compare those of the same message": _by_character,
        "you counted characters: pass each text to `encode` and count the ids": (
            lambda messages, encode: _premiums(messages, lambda text: [ord(c) for c in text])
        ),
        "English has a premium too, 1: keep its key": lambda *inputs: {
            code: n for code, n in _premiums(*inputs).items() if code != "en"
        },
    },
)


# The cheapest list


def _best_vocabulary(
    tokens_per_byte: Sizes,
    layers: float,
    d: int,
    tied: bool = True,
    budget: float | None = None,
    *,
    by: Callable[[float, float], float] = lambda work, tokens: work * tokens,
    entrance_works: bool = False,
    slack: float = 0,
) -> int | None:
    matrices = 1 if tied else 2
    fits = [
        V for V in tokens_per_byte if budget is None or layers + matrices * d * V <= budget - slack
    ]
    working = matrices if entrance_works else 1
    return min(fits, key=lambda V: by(layers + working * d * V, tokens_per_byte[V]), default=None)


_ENGLISH: Sizes = {1000: 0.47, 2000: 0.38, 4000: 0.31, 8000: 0.265, 16000: 0.24}

best_size = Exercise(
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
        "the models of the section": [
            args(_ENGLISH, layers, d) for layers, d in ((0.2e6, 64), (3e6, 256), (106e6, 576))
        ],
        "two matrices, no budget": [
            args(_ENGLISH, 3e6, 256, tied=False),
            args(_ENGLISH, 12e6, 512, tied=False),
        ],
        "a budget that rules out the cheapest size": [
            args(_ENGLISH, 106e6, 576, tied=tied, budget=109e6) for tied in (True, False)
        ],
        "a budget that the cheapest size spends to the last parameter": args(
            _ENGLISH, 106e6, 576, tied=True, budget=106e6 + 576 * 8000
        ),
        "a budget that nothing fits": args(_ENGLISH, 106e6, 576, tied=True, budget=106e6),
    },
    mistakes={
        "the shortest rows are not the least work: a long list has its own price": partial(
            _best_vocabulary, by=lambda work, tokens: tokens
        ),
        "the smallest list is not the least work: layers work on every token of a byte": partial(
            _best_vocabulary, by=lambda work, tokens: work
        ),
        "the entrance is a look-up and no work, even where it has a matrix of its own": partial(
            _best_vocabulary, entrance_works=True
        ),
        "the budget is for the whole model: two matrices count where they are not tied": (
            lambda *sizes, tied=True, budget=None: _best_vocabulary(*sizes, budget=budget)
        ),
        "a model of just the budget's size fits": partial(_best_vocabulary, slack=1),
        "a size beyond the budget must not be chosen": (
            lambda *sizes, tied=True, budget=None: _best_vocabulary(*sizes, tied=tied)
        ),
    },
)
