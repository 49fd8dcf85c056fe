r"""Small stories from a grammar whose entropy is known exactly.

A story draws its hero, place and object once, opens with a sentence that names them, and walks
through scenes: each scene writes one sentence, chosen among a few patterns whose gaps are filled
anew, and then moves on to the next scene or ends. Every choice can be read off the text, so the
probability of a text is the product of the choices', and no model can beat the entropy of the
grammar except by chance:

$H = \sum_{\text{slots}} H(\text{slot}) + \sum_s n_s \, [H(\text{sentence} \mid s) +
H(\text{next scene} \mid s)]$, with $n = e_{\text{first}} (I - P)^{-1}$

the expected number of visits to each scene.
"""

import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, product

import numpy as np

from llmlib.data.corpora.document import Document

END = "end"
_GAP = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"\w+")

Probabilities = Mapping[str, float]


def _entropy(weights: Probabilities) -> float:
    return -math.fsum(p * math.log(p) for p in weights.values())


def _mean_bytes(weights: Probabilities) -> float:
    return math.fsum(p * len(word.encode()) for word, p in weights.items())


def _draw(generator: random.Random, tables: dict, logs: list[float], weights: Probabilities) -> str:
    """Draw a word and note the logarithm of its probability."""
    if id(weights) not in tables:
        tables[id(weights)] = ([*weights], [*accumulate(weights.values())])
    words, cumulative = tables[id(weights)]
    word = generator.choices(words, cum_weights=cumulative)[0]
    logs.append(math.log(weights[word]))
    return word


def weighted(words: str) -> dict[str, float]:
    """Make probabilities of words apart by spaces, each `word` (weight 1) or `word:weight`.

    Example:
        >>> weighted("fox:3 owl")
        {'fox': 0.75, 'owl': 0.25}
    """
    pairs = [word.partition(":") for word in words.split()]
    raw = {word: float(weight or 1) for word, _, weight in pairs}
    total = math.fsum(raw.values())
    return {word: weight / total for word, weight in raw.items()}


@dataclass(frozen=True, kw_only=True)
class StoryWorld:
    """A probabilistic grammar of small stories.

    Raises:
        ValueError: If probabilities do not sum to one, a gap or scene is unknown, some scene never
            ends, or two choices would write the same text.
    """

    name: str
    opening: str
    """The first sentence, naming every slot once, as in `There was a {hero}.`"""
    slots: Mapping[str, Probabilities]
    """For each thing drawn once a story, single words and their probabilities."""
    fillers: Mapping[str, Probabilities]
    """For each gap that is filled anew every time, words and their probabilities."""
    scenes: Mapping[str, Probabilities]
    """For each scene, patterns of its sentence and their probabilities."""
    moves: Mapping[str, Probabilities]
    """For each scene, the scenes that may follow and their probabilities; `end` stops."""
    first: str
    """The scene after the opening."""

    def __post_init__(self) -> None:
        for table in (self.slots, self.fillers, self.scenes, self.moves):
            for name, weights in table.items():
                if min(weights.values()) <= 0 or abs(math.fsum(weights.values()) - 1) > 1e-9:
                    raise ValueError(f"{name!r}: probabilities must be positive and sum to one")
        if set(self.moves) != set(self.scenes) or self.first not in self.scenes:
            raise ValueError("every scene needs moves, every move a scene, and `first` is a scene")
        if unknown := {s for m in self.moves.values() for s in m} - {*self.scenes, END}:
            raise ValueError(f"moves lead to unknown scenes {sorted(unknown)}")
        self._check_words()
        _ = self._sentences, self._visits  # both check what they read

    def _check_words(self) -> None:
        patterns = [pattern for scene in self.scenes.values() for pattern in scene]
        gaps = {gap for pattern in patterns for gap in _GAP.findall(pattern)}
        if unknown := gaps - set(self.slots) - set(self.fillers):
            raise ValueError(f"patterns have unknown gaps {sorted(unknown)}")
        if sorted(_GAP.findall(self.opening)) != sorted(self.slots):
            raise ValueError("the opening must name every slot exactly once")
        for sentence in (self.opening, *patterns):
            if not sentence.endswith(".") or "." in sentence[:-1]:
                raise ValueError(f"a sentence ends with its only full stop: {sentence!r}")
        drawn = [word for slot in self.slots.values() for word in slot]
        others = {word for filler in self.fillers.values() for word in filler}
        others |= {w for p in patterns for w in _WORD.findall(_GAP.sub("", p))}
        if len(set(drawn)) < len(drawn) or set(drawn) & others:
            raise ValueError("slots' words must differ from one another and from all other words")
        if not all(_WORD.fullmatch(word) for word in drawn):
            raise ValueError("slots' words must be single words")

    @cached_property
    def _opening(self) -> re.Pattern[str]:
        parts = [re.escape(part) for part in _GAP.split(self.opening)]
        parts[1::2] = [f"(?P<{slot}>\\w+)" for slot in _GAP.findall(self.opening)]
        return re.compile("".join(parts))

    @cached_property
    def _sentences(self) -> dict[str, tuple[str, float]]:
        """Scene and log-probability there of every sentence, its slots left open."""
        sentences: dict[str, tuple[str, float]] = {}
        for scene, patterns in self.scenes.items():
            for pattern, probability in patterns.items():
                gaps = [gap for gap in _GAP.findall(pattern) if gap in self.fillers]
                for words in product(*(self.fillers[gap].items() for gap in gaps)):
                    chosen = iter(words)
                    text = _GAP.sub(
                        lambda m: next(chosen)[0] if m[1] in self.fillers else m[0],  # noqa: B023
                        pattern,
                    )
                    if text in sentences:
                        raise ValueError(f"two choices write the same sentence: {text!r}")
                    logs = [math.log(p) for _, p in words]
                    sentences[text] = (scene, math.log(probability) + math.fsum(logs))
        return sentences

    @cached_property
    def _visits(self) -> dict[str, float]:
        names = [*self.scenes]
        moves = np.array([[self.moves[a].get(b, 0.0) for b in names] for a in names])
        reach = np.linalg.matrix_power(np.eye(len(names)) + moves, len(names)) > 0
        ends = np.array([END in self.moves[name] for name in names])
        if not (reach[names.index(self.first)] <= (reach @ ends > 0)).all():
            raise ValueError("from some scene a story can never end")
        begin = np.eye(len(names))[names.index(self.first)]
        visits = np.linalg.solve((np.eye(len(names)) - moves).T, begin)
        return dict(zip(names, visits.tolist(), strict=True))

    @property
    def entropy(self) -> float:
        """Entropy of a story in nats: the least mean negative log-likelihood of any model."""
        total = math.fsum(map(_entropy, self.slots.values()))
        for scene, n in self._visits.items():
            inside = _entropy(self.scenes[scene]) + _entropy(self.moves[scene])
            for pattern, p in self.scenes[scene].items():
                filled = [self.fillers[g] for g in _GAP.findall(pattern) if g in self.fillers]
                inside += p * math.fsum(map(_entropy, filled))
            total += n * inside
        return total

    @property
    def mean_bytes(self) -> float:
        """Expected length of a story in UTF-8 bytes."""
        total = self._pattern_bytes(self.opening)
        for scene, n in self._visits.items():
            sentences = self.scenes[scene].items()
            total += n * math.fsum(p * (1 + self._pattern_bytes(text)) for text, p in sentences)
        return total

    def _pattern_bytes(self, pattern: str) -> float:
        gaps = [self.slots.get(g) or self.fillers[g] for g in _GAP.findall(pattern)]
        return len(_GAP.sub("", pattern).encode()) + math.fsum(map(_mean_bytes, gaps))

    @property
    def bits_per_byte(self) -> float:
        """Entropy rate: the entropy of a story over its expected length, in bits per byte."""
        return self.entropy / math.log(2) / self.mean_bytes

    def stories(self, n: int, seed: int) -> Iterator[Document]:
        """Tell stories, for one seed the same for ever.

        Yields:
            The stories, with `meta["log_prob"]` in nats and `meta["module"]` unlike any other's.
        """
        generator = random.Random(f"{self.name}:{seed}")
        tables: dict[int, tuple[list[str], list[float]]] = {}
        for number in range(n):
            text, log_prob = self._story(generator, tables)
            meta = {"module": f"{self.name}:{seed}:{number}", "log_prob": log_prob}
            yield Document(text=text, source=self.name, meta=meta)

    def _story(self, generator: random.Random, tables: dict) -> tuple[str, float]:
        logs: list[float] = []
        draw = partial(_draw, generator, tables, logs)
        drawn = {slot: draw(weights) for slot, weights in self.slots.items()}
        sentences = [_GAP.sub(lambda m: drawn[m[1]], self.opening)]
        scene = self.first
        while scene != END:
            pattern = draw(self.scenes[scene])
            fill = lambda m: drawn.get(m[1]) or draw(self.fillers[m[1]])  # noqa: E731
            sentences.append(_GAP.sub(fill, pattern))
            scene = draw(self.moves[scene])
        return " ".join(sentences), math.fsum(logs)

    def log_prob(self, text: str) -> float:
        """Return a text's log-probability in nats, minus infinity if the grammar cannot tell it.

        Example:
            >>> from llmlib.data.corpora.stories.story_domains import story_domains
            >>> world = story_domains()["ritual"]
            >>> story = next(world.stories(1, seed=0))
            >>> abs(world.log_prob(story.text) - story.meta["log_prob"]) < 1e-9
            True
            >>> world.log_prob("Once upon a time.")
            -inf
        """
        opening, *sentences = re.findall(r"[^.]*\.|[^.]+$", text) or [""]
        match = self._opening.fullmatch(opening)
        if match is None or "{" in text:  # no story holds what marks a gap
            return -math.inf
        drawn = match.groupdict()
        total = 0.0
        for slot, word in drawn.items():
            if word not in self.slots[slot]:
                return -math.inf
            total += math.log(self.slots[slot][word])
        open_slots = {word: f"{{{slot}}}" for slot, word in drawn.items()}
        expected: Probabilities = {self.first: 1.0}
        for sentence in sentences:
            key = _WORD.sub(lambda m: open_slots.get(m[0], m[0]), sentence.removeprefix(" "))
            scene, log_prob = self._sentences.get(key, ("", 0.0))
            if scene not in expected or not sentence.startswith(" "):
                return -math.inf
            total += log_prob + math.log(expected[scene])
            expected = self.moves[scene]
        return total + math.log(expected[END]) if END in expected else -math.inf
