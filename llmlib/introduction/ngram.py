r"""n-gram language models: maximum likelihood, add-k, Jelinek-Mercer and Kneser-Ney.

All of them are one recursion over shorter and shorter contexts $h$,

$$P_k(w \mid h) = \alpha_k(h w) + \gamma_k(h)\, P_{k-1}(w \mid h'), \qquad P_0(w) = 1 / V,$$

where $h'$ is $h$ without its oldest token. They differ in how $\alpha$ and $\gamma$ are read off
the counts, so they share the class that scores, and each adds only its `fit`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from llmlib.introduction.ngram_counts import (
    Documents,
    OrderCounts,
    PaddedTokens,
    Tokens,
    count_documents,
    find_rows,
    names_of_ngrams,
    pad_documents,
    split_documents,
)


class NgramModel:
    """The shared recursion: discounted counts of each order and the weight of the next shorter.

    Build one with the `fit` of a subclass, from documents across which no n-gram reaches, each
    closed by the end token if there is one. The order is the number of tokens in the longest
    n-gram, the predicted one included.

    Args:
        tables: The counts of each order from 1.
        direct: For each order, alpha of each n-gram.
        backoff: For each order, gamma of each context.
    """

    def __init__(
        self,
        tables: list[OrderCounts],
        direct: list[np.ndarray],
        backoff: list[np.ndarray],
        *,
        end_token: int | None,
    ) -> None:
        self.order = len(tables)
        self.vocab_size = tables[0].vocab_size
        self.end_token = end_token
        self._names = [table.names for table in tables]
        self._direct = direct
        self._backoff = backoff

    @property
    def n_ngrams(self) -> list[int]:
        """Number of different n-grams seen, from order 1 upwards."""
        return [
            int(np.sum(names % (self.vocab_size + 1) != self.vocab_size)) for names in self._names
        ]

    def log_prob(self, tokens: Documents) -> Float[np.ndarray, " tokens"]:
        """Return the natural logarithm of each token's probability given those before it.

        A document's first token is predicted from begin marks. Documents stand end to end; minus
        infinity where a model without smoothing excludes the token.
        """
        stream = self._pad(tokens)
        probability = np.full(len(stream.symbols), 1.0 / self.vocab_size)
        rows: np.ndarray | None = None
        for names, direct, backoff in zip(self._names, self._direct, self._backoff, strict=True):
            contexts = np.zeros_like(stream.symbols)
            if rows is not None:
                contexts[1:] = rows[:-1]
            # A context never seen (-1) says nothing: the shorter one keeps its full weight.
            probability *= np.where(contexts >= 0, backoff[contexts], 1.0)
            rows = find_rows(names, names_of_ngrams(stream, rows))
            probability += np.where(rows >= 0, direct[rows], 0.0)
        with np.errstate(divide="ignore"):
            return np.log(probability[stream.is_token])

    def prob(self, context: Tokens) -> Float[np.ndarray, " V"]:
        """Return the distribution of the next token of a document, which may be empty so far."""
        tokens, lengths = split_documents(context, self.vocab_size, self.end_token)
        if self.end_token is not None and len(tokens) and tokens[-1] == self.end_token:
            tokens = tokens[:0]
        elif len(tokens):
            tokens = tokens[-lengths[-1] :]
        history = [self.vocab_size] * (self.order - 1) + tokens.tolist()
        distribution = np.full(self.vocab_size, 1.0 / self.vocab_size)
        base = self.vocab_size + 1
        for k in range(1, self.order + 1):
            row = self._row(history[len(history) - k + 1 :])
            if row < 0:
                break  # a longer context cannot have been seen either
            names = self._names[k - 1]
            start, stop = np.searchsorted(names, [row * base, row * base + self.vocab_size])
            distribution *= self._backoff[k - 1][row]
            distribution[names[start:stop] - row * base] += self._direct[k - 1][start:stop]
        return distribution

    def perplexity(self, tokens: Documents) -> float:
        """Return the exponential of the mean negative log-likelihood per token.

        It is `vocab_size` for a uniform guess, 1 for certainty.

        Raises:
            ValueError: If there is no token to score.
        """
        nats = self.log_prob(tokens)
        if len(nats) == 0:
            raise ValueError("perplexity needs at least one token")
        return float(np.exp(-nats.mean()))

    def _pad(self, tokens: Documents) -> PaddedTokens:
        return pad_documents(
            tokens, order=self.order, vocab_size=self.vocab_size, end_token=self.end_token
        )

    def _row(self, gram: list[int]) -> int:
        """Row of an n-gram among those of its order, -1 if it was never seen."""
        row = 0
        for names, symbol in zip(self._names, gram, strict=False):
            name = np.array([row * (self.vocab_size + 1) + symbol])
            row = int(find_rows(names, name)[0])
            if row < 0:
                break
        return row


class AddK(NgramModel):
    r"""n-grams of one order with k added to every count.

    $$P(w \mid h) = \frac{c(h w) + k}{c(h) + k V}$$

    It is the recursion with one step, from the full context straight to the uniform distribution,
    at weight $k V / (c(h) + k V)$. A context never seen is therefore uniform, also for k = 0.
    """

    @classmethod
    def fit(
        cls,
        documents: Documents,
        *,
        order: int,
        vocab_size: int,
        k: int | float = 1.0,
        end_token: int | None = None,
    ) -> "AddK":
        """Count the documents; k = 0 is maximum likelihood, k = 1 Laplace's rule.

        Raises:
            ValueError: If k is negative.

        Example:
            >>> AddK.fit([[0, 1, 0]], order=1, vocab_size=3, k=1.0).prob([]).tolist()
            [0.5, 0.3333333333333333, 0.16666666666666666]
        """
        if k < 0:
            raise ValueError(f"k must not be negative, got {k}")
        tables = count_documents(documents, order=order, vocab_size=vocab_size, end_token=end_token)
        return cls(tables, *_added(tables, k), end_token=end_token)


def _added(tables: list[OrderCounts], k: int | float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return alpha and gamma where k is added to the counts of the highest order alone."""
    direct = [np.zeros(len(table.names)) for table in tables]
    backoff = [np.ones(table.n_contexts) for table in tables]
    last = tables[-1]
    totals = last.totals(last.occurrences)
    # A context never followed by a token divides 0 by 0 for k = 0: uniform by definition.
    divisor = np.where(totals > 0, totals + k * last.vocab_size, 1.0)
    backoff[-1] = np.where(totals > 0, k * last.vocab_size / divisor, 1.0)
    direct[-1] = last.occurrences / divisor[last.contexts]
    return direct, backoff


class MaximumLikelihood(NgramModel):
    """n-grams of one order as they were counted: P(w | h) = c(h w) / c(h), add-k with k = 0."""

    @classmethod
    def fit(
        cls, documents: Documents, *, order: int, vocab_size: int, end_token: int | None = None
    ) -> "MaximumLikelihood":
        """Count the documents.

        Example:
            >>> MaximumLikelihood.fit([[0, 1, 0, 2]], order=2, vocab_size=3).prob([0]).tolist()
            [0.0, 0.5, 0.5]
        """
        tables = count_documents(documents, order=order, vocab_size=vocab_size, end_token=end_token)
        return cls(tables, *_added(tables, 0.0), end_token=end_token)


class JelinekMercer(NgramModel):
    r"""Maximum-likelihood n-grams of every order, mixed with fixed weights.

    $$P_k(w \mid h) = \lambda_k \frac{c(h w)}{c(h)} + (1 - \lambda_k) P_{k-1}(w \mid h')$$

    Where $h$ was never seen, $\lambda_k$ counts as 0.

    References:
        Jelinek and Mercer (1980); the recursive form is Chen and Goodman (1998), section 2.3.
    """

    @classmethod
    def fit(
        cls,
        documents: Documents,
        *,
        order: int,
        vocab_size: int,
        weights: Sequence[int | float],
        end_token: int | None = None,
    ) -> "JelinekMercer":
        """Count the documents.

        Args:
            weights: lambda of each order from 1 upwards, each from 0 to 1; below 1 for order 1,
                or a token never seen has probability 0.

        Raises:
            ValueError: If there is not one weight from 0 to 1 for each order.
        """
        if len(weights) != order or not all(0 <= weight <= 1 for weight in weights):
            raise ValueError(f"weights must be {order} numbers from 0 to 1, got {list(weights)}")
        tables = count_documents(documents, order=order, vocab_size=vocab_size, end_token=end_token)
        direct, backoff = [], []
        for table, weight in zip(tables, weights, strict=True):
            totals = table.totals(table.occurrences)
            divisor = np.maximum(totals, 1.0)
            direct.append(weight * table.occurrences / divisor[table.contexts])
            backoff.append(np.where(totals > 0, 1.0 - weight, 1.0))
        return cls(tables, direct, backoff, end_token=end_token)
