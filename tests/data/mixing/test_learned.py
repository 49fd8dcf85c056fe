"""DoReMi against games with known solutions, DSIR against exact probabilities."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from llmlib.data.corpora.stories.story_domains import story_domains
from llmlib.data.mixing import ImportanceModel, clipped_excess, doremi, gumbel_top_k
from llmlib.data.mixing.dsir import ngram_buckets


class Quadratic:
    """Two domains that pull one parameter to +1 and to -1, the second four times as hard.

    The worst of (x-1)^2 and 4(x+1)^2 is least at x = -1/3, where both are 16/9, and the gradients
    cancel for the weights 2/3 and 1/3.
    """

    def __init__(self, rate: float) -> None:
        self.x, self.rate = 0.0, rate

    def measure(self) -> np.ndarray:
        return np.array([(self.x - 1) ** 2, 4 * (self.x + 1) ** 2])

    def train(self, weights: np.ndarray) -> None:
        self.x -= self.rate * (weights @ [2 * (self.x - 1), 8 * (self.x + 1)])


@pytest.mark.covers("data.mixture")
def test_doremi_solves_a_game_with_a_known_solution() -> None:
    game = Quadratic(rate=0.02)
    learned = doremi(
        game.measure, game.train, initial=[0.5, 0.5], steps=4000, step_size=0.02, smoothing=0
    )
    np.testing.assert_allclose(learned.weights, [2 / 3, 1 / 3], atol=0.01)
    assert game.x == pytest.approx(-1 / 3, abs=0.02)
    assert learned.path.shape == learned.excess.shape == (4000, 2)


class LearningCurves:
    """Domains whose loss falls with their own tokens, at different speeds, down to a floor."""

    scale = np.array([2.0, 1.0, 0.3, 3.0])
    power = np.array([0.2, 0.5, 0.9, 0.3])

    def __init__(self, seed: int) -> None:
        self.tokens = np.ones(4)
        self.generator = np.random.default_rng(seed)

    def excess(self) -> np.ndarray:
        return self.scale * self.tokens**-self.power - self.scale * 101**-self.power

    def measure(self) -> np.ndarray:
        return np.maximum(self.excess() + self.generator.normal(0, 0.02, 4), 0)

    def train(self, weights: np.ndarray) -> None:
        self.tokens += weights


@pytest.mark.covers("data.mixture")
def test_learned_weights_lower_the_worst_excess_loss() -> None:
    worst: dict[str, list[float]] = {"even": [], "learned": []}
    for seed in (0, 1, 2):
        proxy = LearningCurves(seed)
        learned = doremi(proxy.measure, proxy.train, initial=np.full(4, 0.25), steps=300)
        for name, weights in (("even", np.full(4, 0.25)), ("learned", learned.weights)):
            large = LearningCurves(seed)
            for _ in range(300):
                large.train(weights)
            worst[name].append(large.excess().max())
    assert max(worst["learned"]) < 0.5 * min(worst["even"])
    assert np.argmin(learned.weights) == 2  # the domain that is learnt at once


def test_a_step_by_hand() -> None:
    seen: list[list[float]] = []
    learned = doremi(
        lambda: np.array([np.log(3), 0.0, np.nan]),
        lambda weights: seen.append(weights.tolist()),
        initial=[0.25, 0.25, 0.5],
        steps=1,
        smoothing=0.1,
    )
    raised = np.array([0.75, 0.25, 0.5]) / 1.5
    np.testing.assert_allclose(learned.weights, 0.9 * raised + 0.1 / 3)
    assert seen == [learned.weights.tolist()]
    excess = clipped_excess(np.array([1.0, 5]), np.array([2.0, 3]), np.array([2, 2]), 3)
    np.testing.assert_array_equal(excess, [np.nan, np.nan, 1.0])


def test_what_doremi_refuses() -> None:
    def run(excess: list[float], steps: int = 1) -> None:
        doremi(lambda: np.array(excess), lambda _: None, initial=[0.5, 0.5], steps=steps)

    with pytest.raises(ValueError, match="clip excess losses at zero"):
        run([-0.1, 0])
    with pytest.raises(ValueError, match="for 2 domains"):
        run([0.1, 0, 0])
    with pytest.raises(ValueError, match="steps=0"):
        run([0.1, 0], steps=0)


def test_buckets_are_words_and_pairs_the_same_everywhere() -> None:
    buckets = ngram_buckets("The cat. The CAT!", 10**9)
    assert len(buckets) == 6 + 5
    words, pairs = buckets[:6].tolist(), buckets[6:].tolist()
    assert words[0] == words[3] and words[1] == words[4] and len(set(words)) == 4
    assert pairs[0] == pairs[3] and len(set(pairs)) == 4
    assert ngram_buckets("tea", 1000).tolist() == [834]
    assert len(ngram_buckets("", 7)) == 0
    assert (ngram_buckets("a b a", 10**9)[3:][0]) != ngram_buckets("b a b", 10**9)[3:][0]


def test_weights_equal_the_counts_by_hand() -> None:
    model = ImportanceModel(["a a b"], ["b c", "c"], n_buckets=10**6, smoothing=0.5)
    (a,), (b,) = ngram_buckets("a", 10**6), ngram_buckets("b", 10**6)
    total = 0.5 * 10**6
    # Target: a twice, b once, pairs aa and ab. Raw: b once, c twice, pair bc.
    assert model.log_ratio[a] == pytest.approx(np.log(2.5 / (total + 5) / (0.5 / (total + 4))))
    assert model.log_ratio[b] == pytest.approx(np.log(1.5 / (total + 5) / (1.5 / (total + 4))))
    assert model.log_weight("a b") == pytest.approx(model.log_weights(["a b", "c"])[0])
    with pytest.raises(ValueError, match="target texts hold no word"):
        ImportanceModel([" "], ["a"])


def test_gumbel_draws_follow_the_weights_without_replacement() -> None:
    weights = np.array([1.0, 2.0, 5.0])
    expected = {
        frozenset(pair): sum(
            weights[i] / 8 * weights[j] / (8 - weights[i]) for i, j in permutations(pair)
        )
        for pair in ((0, 1), (0, 2), (1, 2))
    }
    runs = 6000
    drawn = Counter(
        frozenset(gumbel_top_k(np.log(weights), 2, seed).tolist()) for seed in range(runs)
    )
    for pair, probability in expected.items():
        error = (probability * (1 - probability) / runs) ** 0.5
        assert abs(drawn[pair] / runs - probability) < 4 * error
    rare = np.mean([gumbel_top_k([0.0, 3.0], 1, seed)[0] == 0 for seed in range(runs)])
    assert abs(rare - 1 / (1 + np.exp(3))) < 0.011  # four standard errors
    assert gumbel_top_k([0.0, 1.0], 2, 0).tolist() == [0, 1]
    with pytest.raises(ValueError, match="k=3 of 2"):
        gumbel_top_k([0.0, 1.0], 3, 0)


@pytest.mark.covers("data.mixture")
@pytest.mark.parametrize("wanted", ["harbour", "forest", "workshop"])
def test_selection_finds_the_domain_of_the_target(wanted: str) -> None:
    """Of four domains in equal parts, a quarter by chance; targets and corpus share no story."""
    worlds = story_domains()
    corpus = [(name, s.text) for name, w in worlds.items() for s in w.stories(150, seed=1)]
    target = [story.text for story in worlds[wanted].stories(40, seed=2)]
    model = ImportanceModel(target, (text for _, text in corpus))
    scores = model.log_weights(text for _, text in corpus)
    for seed in (0, 1, 2):
        chosen = gumbel_top_k(scores, 150, seed)
        share = np.mean([corpus[place][0] == wanted for place in chosen])
        assert share > 0.97
