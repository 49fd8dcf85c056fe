r"""A linear classifier over hashed n-grams, behind the language, quality and toxicity filters.

With $x$ the counts of a text's n-grams, damped and scaled to length 1,

$$p(y \mid x) = \operatorname{softmax}(W x + b)_y ,$$

trained by Adam on the mean of $-\log p(y \mid x)$. fastText is this with a narrow layer between;
GPT-3's filter was this in Spark.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int

from llmlib.core.files import atomic_path
from llmlib.data.cleaning.classifiers.hashing import Bags, character_bags, word_bags

_FEATURES: dict[str, Callable[..., Bags]] = {"characters": character_bags, "words": word_bags}


@dataclass(frozen=True, kw_only=True)
class LinearTraining:
    """What the classifier looks at and how it is trained."""

    unit: str = "characters"
    """`characters` or `words`."""
    orders: tuple[int, ...] = (1, 2, 3)
    """Lengths of the n-grams, in units."""
    buckets: int = 2**14
    """Rows of the weight table, a power of 2."""
    epochs: int = 6
    """Passes over the training texts."""
    batch: int = 256
    """Texts in a step."""
    learning_rate: float = 0.05
    """Adam's, at the start; it falls linearly to a tenth."""
    l2: float = 1e-5
    """Weight of half the squared weights in the loss of a batch."""
    seed: int = 0


class LinearClassifier:
    """Weights of each class for each bucket.

    Example:
        >>> texts = ["ein Haus am See", "das alte Haus", "a house by the lake", "the old house"]
        >>> recipe = LinearTraining(buckets=256, batch=2, epochs=20)
        >>> model = LinearClassifier.train(texts, ["de", "de", "en", "en"], recipe)
        >>> model.predict(["das See", "the lake"])
        ['de', 'en']
    """

    def __init__(
        self,
        classes: Sequence[str],
        weights: Float32[np.ndarray, "buckets K"],
        bias: Float32[np.ndarray, " K"],
        recipe: LinearTraining,
    ) -> None:
        self.classes = tuple(classes)
        self.weights = weights
        self.bias = bias
        self.recipe = recipe

    @classmethod
    def train(
        cls, texts: Sequence[str], labels: Sequence[str], recipe: LinearTraining | None = None
    ) -> "LinearClassifier":
        """Fit the weights.

        Args:
            texts: Their bags are held in memory, 12 bytes a feature.

        Returns:
            The classifier; equal inputs give equal weights on one machine.

        Raises:
            ValueError: If lengths differ, or there are fewer than two classes.
        """
        recipe = recipe or LinearTraining()
        classes = sorted(set(labels))
        if len(texts) != len(labels) or len(classes) < 2:
            raise ValueError(
                f"{len(texts)} texts with {len(labels)} labels of {len(classes)} classes: give "
                "each text a label, and at least two classes"
            )
        target = np.searchsorted(classes, labels)
        model = cls(
            classes,
            np.zeros((recipe.buckets, len(classes)), dtype=np.float32),
            np.zeros(len(classes), dtype=np.float32),
            recipe,
        )
        model._fit(model._bags(texts), target)
        return model

    def log_probability(self, texts: Sequence[str]) -> Float[np.ndarray, "texts K"]:
        """Return the logarithm of each class's probability, in nats, in the order of `classes`."""
        logits = self._bags(texts).dot(self.weights) + self.bias
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def probability(self, texts: Sequence[str], label: str) -> Float[np.ndarray, " texts"]:
        """Return each text's probability of one class."""
        return np.exp(self.log_probability(texts)[:, self.classes.index(label)])

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return each text's likeliest class."""
        if not texts:
            return []
        return [self.classes[index] for index in self.log_probability(texts).argmax(axis=1)]

    def save(self, path: str | Path) -> None:
        """Write weights and recipe as safetensors."""
        from safetensors.numpy import save_file

        meta = {"classes": json.dumps(self.classes), "recipe": json.dumps(vars(self.recipe))}
        with atomic_path(path) as temporary:
            save_file({"weights": self.weights, "bias": self.bias}, temporary, metadata=meta)

    @classmethod
    def load(cls, path: str | Path) -> "LinearClassifier":
        """Read what `save` wrote."""
        from safetensors import safe_open

        with safe_open(str(path), framework="numpy") as file:
            meta = file.metadata()
            recipe = json.loads(meta["recipe"])
            recipe["orders"] = tuple(recipe["orders"])
            weights, bias = file.get_tensor("weights"), file.get_tensor("bias")
        return cls(json.loads(meta["classes"]), weights, bias, LinearTraining(**recipe))

    def _bags(self, texts: Sequence[str]) -> Bags:
        make = _FEATURES[self.recipe.unit]
        return make(texts, orders=self.recipe.orders, buckets=self.recipe.buckets)

    def _fit(self, bags: Bags, target: Int[np.ndarray, " texts"]) -> None:
        import torch  # autograd pays here; what only applies the model needs none of it
        from torch.nn import functional as F

        recipe = self.recipe
        weights, bias = (torch.from_numpy(array) for array in (self.weights, self.bias))
        optimizer = torch.optim.Adam([weights.requires_grad_(), bias.requires_grad_()])
        generator = np.random.default_rng(recipe.seed)
        steps, done = recipe.epochs * -(-len(bags) // recipe.batch), 0
        for _ in range(recipe.epochs):
            order = generator.permutation(len(bags))
            for start in range(0, len(order), recipe.batch):
                chosen = order[start : start + recipe.batch]
                batch = bags.select(chosen)
                buckets, values, offsets = (
                    torch.from_numpy(array)
                    for array in (batch.buckets, batch.values, batch.offsets[:-1])
                )
                sums = F.embedding_bag(
                    buckets, weights, offsets, mode="sum", per_sample_weights=values
                )  # [batch K]
                loss = F.cross_entropy(sums + bias, torch.from_numpy(target[chosen]))
                loss = loss + recipe.l2 / 2 * weights.square().sum()
                optimizer.param_groups[0]["lr"] = recipe.learning_rate * (1 - 0.9 * done / steps)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()  # writes into the numpy arrays, whose memory these tensors share
                done += 1
