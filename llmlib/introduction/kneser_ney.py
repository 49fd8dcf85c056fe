"""Interpolated Kneser-Ney smoothing, plain and modified."""

from collections.abc import Sequence

import numpy as np

from llmlib.introduction.ngram import NgramModel
from llmlib.introduction.ngram_counts import Documents, count_documents

# What is used where the counts of counts of a small or artificial corpus give no discount.
FALLBACK = 0.5
MODIFIED_FALLBACK = (0.5, 1.0, 1.5)

Discounts = tuple[float, float, float]
"""What is taken from a count of 1, of 2, and of 3 or more."""


def absolute_discount(counts: np.ndarray) -> Discounts:
    r"""Estimate one discount from how many n-grams were counted once and twice.

    $$D = \frac{n_1}{n_1 + 2 n_2}$$

    It is returned three times, as for counts of 1, 2 and more; 0.5 where none was counted once.

    Example:
        >>> absolute_discount(np.array([1, 1, 2, 5]))
        (0.5, 0.5, 0.5)

    References:
        Ney, Essen and Kneser (1994), "On structuring probabilistic dependences in stochastic
        language modelling": the leaving-one-out estimate.
    """
    n1, n2 = (int(np.sum(counts == r)) for r in (1, 2))
    discount = n1 / (n1 + 2 * n2) if n1 else FALLBACK
    return discount, discount, discount


def modified_discounts(counts: np.ndarray) -> Discounts:
    r"""Estimate separate discounts for counts of 1, of 2, and of 3 or more.

    $$D_r = r - (r + 1) \frac{n_1}{n_1 + 2 n_2} \frac{n_{r+1}}{n_r}, \qquad r = 1, 2, 3$$

    They are 0.5, 1 and 1.5 where the corpus is too small to estimate one of them.

    References:
        Chen and Goodman (1998), "An empirical study of smoothing techniques for language
        modeling", section 4.1.6 of the Harvard report TR-10-98.
    """
    n = np.array([np.sum(counts == r) for r in range(1, 5)], dtype=float)
    if (n == 0).any():
        return MODIFIED_FALLBACK
    y = n[0] / (n[0] + 2 * n[1])
    first, second, third = (r - (r + 1) * y * n[r] / n[r - 1] for r in (1, 2, 3))
    if min(first, second, third) <= 0:
        return MODIFIED_FALLBACK
    return float(first), float(second), float(third)


class KneserNey(NgramModel):
    r"""Interpolated Kneser-Ney n-grams over integer tokens.

    $$P_k(w \mid h) = \frac{c_k(h w) - D_k(c_k(h w))}{\sum_v c_k(h v)}
    + \gamma_k(h)\, P_{k-1}(w \mid h')$$

    For the highest order $c$ is how often the n-gram occurs. For a shorter one it is how many
    different tokens were seen in front of it, because the shorter model is asked only where the
    longer one failed: a token that is frequent but follows always the same one ("Francisco")
    should then be unlikely. $\gamma_k(h)$ is the mass that the discounts set free, and order 1 is
    interpolated with the uniform distribution, so that no token is impossible.

    References:
        Kneser and Ney (1995), "Improved backing-off for m-gram language modeling"; the
        interpolated and the modified form are Chen and Goodman (1998), sections 2.7 and 4.1.6.
    """

    discounts: list[Discounts]

    @classmethod
    def fit(
        cls,
        documents: Documents,
        *,
        order: int,
        vocab_size: int,
        end_token: int | None = None,
        modified: bool = False,
        discounts: Sequence[int | float] | None = None,
    ) -> "KneserNey":
        """Count the documents and estimate the discounts.

        Args:
            modified: Use three discounts an order instead of one.
            discounts: One discount from 0 to 1 for each order from 1 upwards, instead of the
                estimates. With 0 for order 1 a token never seen has probability 0.

        Raises:
            ValueError: If `discounts` does not hold one number from 0 to 1 for each order, or is
                given together with `modified`.

        Example:
            >>> model = KneserNey.fit([[0, 1, 0, 1, 2]], order=2, vocab_size=4)
            >>> model.prob([0, 1]).round(3).tolist()
            [0.481, 0.131, 0.331, 0.056]
        """
        if discounts is not None and modified:
            raise ValueError("modified estimates its discounts: leave out one of the two")
        if discounts is not None and (
            len(discounts) != order or not all(0 <= value <= 1 for value in discounts)
        ):
            raise ValueError(f"discounts must be {order} numbers from 0 to 1, got {discounts}")
        tables = count_documents(documents, order=order, vocab_size=vocab_size, end_token=end_token)
        estimate = modified_discounts if modified else absolute_discount
        used: list[Discounts] = []
        direct: list[np.ndarray] = []
        backoff: list[np.ndarray] = []
        for k, table in enumerate(tables):
            counts = table.continuations
            fixed = None if discounts is None else float(discounts[k])
            used.append(estimate(counts) if fixed is None else (fixed, fixed, fixed))
            taken = np.array([0.0, *used[-1]])[np.minimum(counts, 3)]
            totals = table.totals(counts)
            # Contexts that no token follows have no mass to split: the shorter one keeps it all.
            divisor = np.maximum(totals, 1.0)
            direct.append((counts - taken) / divisor[table.contexts])
            backoff.append(np.where(totals > 0, table.totals(taken) / divisor, 1.0))
        model = cls(tables, direct, backoff, end_token=end_token)
        model.discounts = used
        return model
