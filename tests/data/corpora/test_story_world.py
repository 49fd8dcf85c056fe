"""The story world: entropy in closed form, by enumeration and by sampling; texts read back."""

import math
from dataclasses import replace
from itertools import combinations, islice

import numpy as np
import pytest

from llmlib.data.corpora.stories.story_domains import story_domains
from llmlib.data.corpora.stories.story_world import END, StoryWorld, weighted

TOY = StoryWorld(
    name="toy",
    opening="A {hero} sat.",
    slots={"hero": weighted("cat:3 dog")},
    fillers={"thing": weighted("mouse:2 egg")},
    scenes={"go": {"It saw a {thing}.": 0.7, "The {hero} slept.": 0.3}},
    moves={"go": {"go": 0.2, END: 0.8}},
    first="go",
)


def every_story(longest: int) -> dict[str, float]:
    """Write out all of the toy world's stories of up to so many sentences, by hand."""
    stories: dict[str, float] = {}
    for hero, p_hero in (("cat", 0.75), ("dog", 0.25)):
        pieces = {
            " It saw a mouse.": 0.7 * 2 / 3,
            " It saw a egg.": 0.7 / 3,
            f" The {hero} slept.": 0.3,
        }
        begun = {f"A {hero} sat.": p_hero}
        for length in range(1, longest + 1):
            begun = {t + s: p * q for t, p in begun.items() for s, q in pieces.items()}
            stories |= {t: p * 0.2 ** (length - 1) * 0.8 for t, p in begun.items()}
    return stories


def test_closed_forms_equal_enumeration() -> None:
    stories = every_story(9)
    assert math.fsum(stories.values()) == pytest.approx(1, abs=1e-6)
    entropy = -math.fsum(p * math.log(p) for p in stories.values())
    assert TOY.entropy == pytest.approx(entropy, rel=3e-5)
    length = math.fsum(p * len(text) for text, p in stories.items())
    assert TOY.mean_bytes == pytest.approx(length, rel=3e-5)
    for text, probability in islice(stories.items(), 0, None, 97):
        assert TOY.log_prob(text) == pytest.approx(math.log(probability))


@pytest.mark.parametrize("name", ["harbour", "forest", "workshop", "ritual"])
def test_samples_agree_with_the_entropy(name: str) -> None:
    world = story_domains()[name]
    stories = [*world.stories(2003, seed=7)]
    surprise = np.array([-story.meta["log_prob"] for story in stories])
    sizes = np.array([story.n_bytes for story in stories])
    for sample, expected in ((surprise, world.entropy), (sizes, world.mean_bytes)):
        error = sample.std(ddof=1) / math.sqrt(len(sample))
        assert abs(sample.mean() - expected) < 3.5 * error
        assert error < 0.03 * expected  # narrow enough to see a wrong term
    assert world.bits_per_byte == pytest.approx(world.entropy / math.log(2) / world.mean_bytes)
    for story in stories[:211]:
        assert world.log_prob(story.text) == pytest.approx(story.meta["log_prob"], abs=1e-9)


def test_a_story_depends_on_its_seed_alone() -> None:
    world = story_domains()["forest"]
    first = [story.text for story in world.stories(17, seed=1)]
    assert [story.text for story in world.stories(5, seed=1)] == first[:5]
    assert [story.text for story in world.stories(17, seed=2)] != first
    assert first[0].startswith("Deep in the ")


def test_domains_differ_in_words_and_in_entropy() -> None:
    worlds = story_domains()
    texts = {
        name: {w for s in world.stories(199, 0) for w in s.text.strip(".").split() if len(w) > 4}
        for name, world in worlds.items()
    }
    for one, two in combinations(texts.values(), 2):
        assert len(one & two) < 0.1 * min(len(one), len(two))
    rates = {name: world.bits_per_byte for name, world in worlds.items()}
    assert rates["ritual"] < 0.5 * rates["workshop"] < 0.5 * rates["harbour"]


def test_what_the_grammar_cannot_tell() -> None:
    for text in (
        "",
        "A cat sat.",  # ends before a scene
        "A cow sat. It saw a egg.",
        "A cat sat. The dog slept.",
        "A cat sat.It saw a egg.",
        "A cat sat. It saw a egg. And",
        "A cat sat. It saw a hero.",
        "A cat sat. The {hero} slept.",
    ):
        assert TOY.log_prob(text) == -math.inf, text


def test_ambiguous_and_endless_worlds_are_refused() -> None:
    with pytest.raises(ValueError, match="'hero': probabilities must be positive and sum to one"):
        replace(TOY, slots={"hero": {"cat": 0.5, "dog": 0.4}})
    with pytest.raises(ValueError, match="two choices write the same sentence: 'It saw a egg.'"):
        replace(TOY, scenes={"go": {"It saw a {thing}.": 0.5, "It saw a egg.": 0.5}})
    with pytest.raises(ValueError, match="must differ from one another and from all other"):
        replace(TOY, slots={"hero": weighted("cat egg")})
    with pytest.raises(ValueError, match="a story can never end"):
        replace(TOY, moves={"go": {"go": 1.0}})
    with pytest.raises(ValueError, match=r"unknown scenes \['stay'\]"):
        replace(TOY, moves={"go": {"stay": 0.5, END: 0.5}})
    with pytest.raises(ValueError, match="every scene needs moves"):
        replace(TOY, first="stay")
    with pytest.raises(ValueError, match=r"unknown gaps \['toy'\]"):
        replace(TOY, scenes={"go": {"It saw a {toy}.": 1.0}})
    with pytest.raises(ValueError, match="name every slot exactly once"):
        replace(TOY, opening="A cat sat.")
    with pytest.raises(ValueError, match="ends with its only full stop"):
        replace(TOY, scenes={"go": {"It saw. It went.": 1.0}})
    with pytest.raises(ValueError, match="must be single words"):
        replace(TOY, slots={"hero": {"big cat": 1.0}})
