"""Four ways to cut a number into tokens."""

import re
from collections.abc import Callable
from functools import cache

from llmlib.data.corpora.fixed import fixed_code, fixed_corpus
from llmlib.data.tokenizers.bpe.character_bpe import CharacterBPE

WAYS = ("single", "left", "right", "learnt")
GROUP = 2
GROUPS = tuple(f"{i:0{n}}" for n in range(1, GROUP + 1) for i in range(10**n))
"""All strings of one or two digits, 110 of them."""

Spelling = Callable[[int], list[int]]


def groups(digits: str, way: str, size: int = GROUP) -> list[str]:
    """Cut the digits of a number "single", or in groups of `size` from the "left" or the "right".

    Example:
        >>> groups("123", "left"), groups("123", "right")
        (['12', '3'], ['1', '23'])
    """
    if way == "single":
        return list(digits)
    if way not in ("left", "right"):
        raise ValueError(f"{way!r} is no rule: give single, left or right")
    first = len(digits) % size if way == "right" else 0
    rest = [digits[start : start + size] for start in range(first, len(digits), size)]
    return [digits[:first], *rest] if first else rest


@cache
def learnt_numbers() -> CharacterBPE:
    """Learn byte-pair merges from the numbers, of five digits at most, in prose and code.

    There are an unknown token and as many others as there are `GROUPS`.
    """
    texts = [document.text for source in (fixed_corpus(), fixed_code()) for document in source]
    numbers = re.findall(r"(?<!\d)\d{1,5}(?!\d)", "\n".join(texts), re.ASCII)
    return CharacterBPE.train(
        [" ".join(numbers)], len(GROUPS) + 1, byte_fallback=False, cut="whitespace"
    )


def spelling(way: str) -> Spelling:
    """Return the function that writes a number in one of `WAYS`.

    Ids begin at 3; 0 ends a sum, 1 is plus, 2 is equals.
    """
    if way == "learnt":
        encode = learnt_numbers().encode  # the unknown token has the id 0
        return cache(lambda number: [i + 2 for i in encode(str(number))])
    ids = {text: i for i, text in enumerate(GROUPS, start=3)}
    return cache(lambda number: [ids[group] for group in groups(str(number), way)])
