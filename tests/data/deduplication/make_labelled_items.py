"""Write the labelled pairs of data/deduplication from sentences of our own.

`python tests/data/deduplication/make_labelled_items.py` writes documents.jsonl and passages.jsonl;
a test runs it and compares. Labels follow from the way a pair was made, not from what the library
says about it: a copy in other dress is the same document, a changed fact is another one.
"""

import json
import random
import sys
import textwrap
import unicodedata
from pathlib import Path

DATA = Path(__file__).parents[3] / "data" / "deduplication"

# Each text, and what an editor might change in it: (from, to, kind).
TEXTS = [
    ("The café on Rue Molière opens at 7 and closes at 19.", "7", "8", "number"),
    ("Heat the oven to 180 degrees, then bake the loaf for 45 minutes.", "45", "54", "number"),
    ("The river froze in January and the ferry stayed in port.", "January", "February", "word"),
    ("A señor from Málaga bought 12 oranges and a newspaper.", "12", "21", "number"),
    ("The function returns the largest element of the list.", "largest", "smallest", "word"),
    (
        "Passengers may leave the train before it has stopped.",
        "may leave",
        "may not leave",
        "negation",
    ),
    ("Zoë measured the garden: 14 metres by 9 metres.", "9 metres", "9 feet", "word"),
    ("This medicine is safe for children under six.", "is safe", "is not safe", "negation"),
    ("The naïve method needs n comparisons for every insertion.", "n", "2n", "number"),
    ("Our library lends books for 21 days and films for 3.", "21", "28", "number"),
    ("Crème brûlée is served cold, under a hot crust of sugar.", "cold", "warm", "word"),
    ("The lighthouse at Ærø shows two white flashes every 15 seconds.", "two", "three", "number"),
    ("Water the fern twice a week in summer.", "summer", "winter", "word"),
    ("The second train to Zürich leaves from platform 4.", "4", "14", "number"),
    ("Students must register before the first lecture.", "must", "need not", "negation"),
    ("Ångström worked in Uppsala and measured the light of the sun.", "Uppsala", "Lund", "word"),
    ("The bridge carries 40 tonnes and was rebuilt in 1931.", "1931", "1913", "number"),
    ("Ten kilometres north of the village the road forks.", "north", "south", "word"),
    ("The committee accepted the proposal in the third round.", "accepted", "rejected", "word"),
    ("Press the red button and wait for the green lamp.", "red", "blue", "word"),
]
# A fact moved rather than changed, or lost, or only written differently in one place.
NEAR_MISSES = [
    ("The dog bit the postman.", "The postman bit the dog.", "order"),
    ("Anna lent Peter her bicycle.", "Peter lent Anna her bicycle.", "order"),
    ("First rinse, then dry the glass.", "First dry, then rinse the glass.", "order"),
    ("Two plus three times four.", "Two times three plus four.", "order"),
    ("He sent his résumé on Monday.", "He sent his resume on Monday.", "accent"),
    ("Der Wirt zapfte schon.", "Der Wirt zapfte schön.", "accent"),
    ("Il a pêché toute la nuit.", "Il a péché toute la nuit.", "accent"),
    ("El año pasado fue largo.", "El ano pasado fue largo.", "accent"),
    ("The night fell to -5 degrees.", "The night fell to 5 degrees.", "sign"),
    ("Call foo(x) before foo[x].", "Call foo[x] before foo(x).", "sign"),
    ("The price rose by 1.5 percent.", "The price rose by 15 percent.", "sign"),
    ("Let us eat, grandpa.", "Let us eat grandpa.", "sign"),
    ("The ratio is 3:4 in wet years.", "The ratio is 3/4 in wet years.", "sign"),
    ("We saw a rein deer cross.", "We saw a reindeer cross.", "spacing"),
    ("The therapist closed the door.", "The the rapist closed the door.", "spacing"),
    ("They met every day at noon.", "They met everyday at noon.", "spacing"),
    ("There were 1 000 swans.", "There were 1000 swans.", "spacing"),
    ("The area is 10² hectares.", "The area is 102 hectares.", "exponent"),
    ("It holds 2⁸ entries.", "It holds 28 entries.", "exponent"),
    ("Avogadro's number is near 6·10²³.", "Avogadro's number is near 6·1023.", "exponent"),
    ("Square it: x².", "Square it: x2.", "exponent"),
    ("The isotope ¹⁴C decays slowly.", "The isotope 14C decays slowly.", "exponent"),
    ("Add 5½ cups of flour.", "Add 51⁄2 cups of flour.", "exponent"),
]
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
LIGATURES = [("ffi", "ﬃ"), ("fi", "ﬁ"), ("fl", "ﬂ"), ("ff", "ﬀ")]


def rewrapped(text: str) -> str:
    return "  " + textwrap.fill(text, 23, subsequent_indent="\t") + " \r\n"


def no_break(text: str) -> str:
    return text.replace(" ", "\u00a0", 2) + "\u3000"


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def hyphenated(text: str) -> str:
    words = text.split(" ")
    return "\ufeff" + " ".join(w[:3] + "\u00ad" + w[3:] if len(w) > 6 else w for w in words)


def document_pairs() -> list[dict]:
    same, other = [], []
    for number, (text, old, new, kind) in enumerate(TEXTS):
        accented = decomposed(text) != text
        same += [
            (text, text.upper(), "case"),
            (text, (rewrapped if number % 2 else no_break)(text), "white space"),
            (
                text,
                decomposed(text) if accented else text.title(),
                "composition" if accented else "case",
            ),
            (text, hyphenated(rewrapped(text).upper()), "several at once"),
        ]
        other += [
            (text, text.replace(old, new, 1), kind),
            (text, text.upper().replace(old.upper(), new.upper(), 1), kind + ", in capitals"),
            (text, text + " " + TEXTS[number - 1][0], "one sentence more"),
        ]
    same += [(text, text, "identical") for text, *_ in TEXTS[4:8]]
    same += [
        (text, "\u200b".join(text.split("-")) + "\u200b", "invisible") for text, *_ in TEXTS[8:16]
    ]
    same += [
        (text, text.translate(FULL_WIDTH).replace(" ", "\u3000"), "full width")
        for text, *_ in TEXTS[16:]
    ]
    for text in (
        "The first flight filled quickly.",
        "Fluffy muffins fit in a tin.",
        "An official fixed the flag.",
        "The final affidavit was filed.",
    ):
        ligated = text
        for letters, sign in LIGATURES:
            ligated = ligated.replace(letters, sign)
        same.append((text, ligated, "ligature"))
    other += NEAR_MISSES
    other += [(text, text[: text.rindex(" ")] + ".", "cut short") for text, *_ in TEXTS[:17]]
    assert len(same) == len(other) == 100, (len(same), len(other))
    return [
        {"a": a, "b": b, "same": label, "kind": kind}
        for rows, label in ((same, True), (other, False))
        for a, b, kind in rows
    ]


def passage_pairs() -> list[dict]:
    """Documents of five sentences, and a later document that took some of them."""
    rng = random.Random(0)
    sentences = [text for text, *_ in TEXTS]
    edits = {text: text.replace(old, new, 1) for text, old, new, _ in TEXTS}
    pairs = []
    for number in range(100):
        first = rng.sample(sentences, 5)
        own = rng.sample([s for s in sentences if s not in first], 3)
        taken = first[1:4]
        kind = ("verbatim", "capitals", "rewrapped", "five taken", "second copy inside")[number % 5]
        if number >= 50:
            kind = ("two taken", "reordered", "one edited", "interleaved", "nothing")[number % 5]
        body = {
            "verbatim": taken,
            "capitals": [s.upper() for s in taken],
            "rewrapped": [s.replace(" ", "  ", 2) for s in taken],
            "five taken": first,
            "second copy inside": [*taken, own[2]],
            "two taken": taken[:2],
            "reordered": [taken[1], taken[0], taken[2]],
            "one edited": [taken[0], edits[taken[1]], taken[2]],
            "interleaved": [taken[0], own[2], taken[1], taken[2]],
            "nothing": [own[2]],
        }[kind]
        text = " ".join([own[0], *body, own[1]])
        pairs.append({"a": " ".join(first), "b": text, "same": number < 50, "kind": kind})
    return pairs


def write(folder: Path) -> None:
    for name, rows in (("documents", document_pairs()), ("passages", passage_pairs())):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
