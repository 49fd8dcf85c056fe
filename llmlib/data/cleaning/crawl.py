"""A made-up crawl: pages of the kinds that raw web text consists of, in known shares.

A quality filter needs raw text to tell apart from edited text, and the package index holds no raw
web. These pages are put together from phrases written here: shops that repeat their key words,
navigation without an article, logs and tables, and people who chat. The chat is what makes the
filter's prejudice measurable: it has content, and no editor.
"""

import json
import random
from collections.abc import Callable
from functools import cache

from llmlib.core.resources import resource

_CHAT = ("openers", "subjects", "verbs", "things", "closers")


@cache
def _phrases() -> dict[str, list[str]]:
    return json.loads(resource("cleaning/phrases.json").read_text(encoding="utf-8"))


def _shop(rng: random.Random) -> str:
    goods, praise = rng.sample(_phrases()["goods"], 3), rng.sample(_phrases()["praise"], 4)
    offers = [
        f"{rng.choice(praise)} {rng.choice(goods)} {rng.choice(praise)} {rng.choice(goods)} "
        f"${rng.randint(5, 999)}.{rng.randint(0, 99):02d}"
        for _ in range(rng.randint(4, 12))
    ]
    return rng.choice((" ", " - ", "\n", ", ")).join(offers)


def _menu(rng: random.Random) -> str:
    entries = rng.sample(_phrases()["menu"], rng.randint(6, 14))
    last = f"Page {rng.randint(1, 9)} of {rng.randint(9, 99)} © {rng.randint(2001, 2024)}"
    return rng.choice((" | ", " » ", "\n", " · ")).join([*entries, last])


def _machine(rng: random.Random) -> str:
    rows = []
    for _ in range(rng.randint(3, 9)):
        key = f"{rng.getrandbits(48):012x}"
        rows.append(
            f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d} {key} {rng.random():.4f} OK"
        )
    return "\n".join(rows)


def _chat(rng: random.Random) -> str:
    parts = [_phrases()[kind] for kind in _CHAT]
    posts = [" ".join(map(rng.choice, parts)) for _ in range(rng.randint(1, 5))]
    return rng.choice(("\n", " ")).join(posts)


_JUNK: tuple[Callable[[random.Random], str], ...] = (_shop, _menu, _machine)


def made_up_crawl(n_pages: int, *, chat: float = 0.3, seed: int = 0) -> list[str]:
    """Write pages of an imaginary crawl.

    Args:
        chat: Share of pages on which people talk informally; shops, menus and machine output divide
            the rest equally.

    Example:
        >>> len(made_up_crawl(3, seed=1))
        3
    """
    if not 0 <= chat <= 1:
        raise ValueError(f"chat={chat} is a share of the pages: 0 to 1")
    rng = random.Random(seed)
    return [_chat(rng) if rng.random() < chat else rng.choice(_JUNK)(rng) for _ in range(n_pages)]
