"""How much of each source: weights of a mixture, and how often each source is read.

A weight is the share of training tokens that a source gives. Weights are numpy arrays in the order
of the sources and sum to one.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Weights = Float[np.ndarray, " sources"]


def proportional(tokens: Sequence[float | int] | np.ndarray) -> Weights:
    """Weigh each source by its size, so that all are read equally often.

    Example:
        >>> proportional([600, 300, 100]).round(9).tolist()
        [0.6, 0.3, 0.1]
    """
    return temperature(tokens, 1.0)


def temperature(tokens: Sequence[float | int] | np.ndarray, tau: float | int) -> Weights:
    r"""Flatten the sizes: $w_i \propto n_i^{1/\tau}$.

    Args:
        tau: 1 for weights by size; larger is flatter, infinity is uniform.

    Raises:
        ValueError: If a size or the temperature is not positive.

    Example:
        >>> temperature([810, 10], 2).round(3).tolist()
        [0.9, 0.1]

    References:
        Conneau and Lample (2019), section 3.1 (alpha is 1/tau); Xue et al. (2021), mT5, section
        3.1; Arivazhagan et al. (2019), section 4 (tau of 5).
    """
    sizes = _positive(tokens)
    if not tau > 0:
        raise ValueError(f"tau={tau} must be positive")
    logs = np.log(sizes) / tau
    raised = np.exp(logs - logs.max())
    return raised / raised.sum()


def capped(
    tokens: Sequence[float | int] | np.ndarray, budget: float | int, max_epochs: float | int
) -> Weights:
    """Share a budget evenly, but read no source more than so many times (UniMax).

    From the smallest source on, each gets an equal share of what is left of the budget, or all that
    its cap allows if that is less.

    Returns:
        The weights. If all caps together stay below the budget, the weights are by size and the
        budget cannot be spent: see `epochs_of`.

    Example:
        >>> capped([1000, 100, 10], budget=300, max_epochs=2).round(3).tolist()
        [0.467, 0.467, 0.067]

    References:
        Chung et al. (2023), UniMax, algorithm 1.
    """
    sizes = _positive(tokens)
    if not (budget > 0 and max_epochs > 0):
        raise ValueError(f"budget={budget} and max_epochs={max_epochs} must be positive")
    given = np.zeros_like(sizes)
    left = min(budget, max_epochs * float(sizes.sum()))
    for done, source in enumerate(np.argsort(sizes, kind="stable")):
        given[source] = min(max_epochs * sizes[source], left / (len(sizes) - done))
        left -= given[source]
    return given / given.sum()


def epochs_of(
    weights: Sequence[float | int] | np.ndarray,
    tokens: Sequence[float | int] | np.ndarray,
    budget: float | int,
) -> Float[np.ndarray, " sources"]:
    """Count how often each source is read: below 1 where it is not used up.

    Returns:
        Epochs. Muennighoff et al. (2023) see hardly any harm of up to four.

    Example:
        >>> epochs_of([0.5, 0.5], [1000, 50], budget=400).tolist()
        [0.2, 4.0]
    """
    sizes = _positive(tokens)
    shares = checked_weights(weights)
    if len(shares) != len(sizes):
        raise ValueError(f"{len(shares)} weights for {len(sizes)} sources")
    return shares * budget / sizes


def checked_weights(weights: Sequence[float | int] | np.ndarray) -> Weights:
    """Refuse what is no mixture.

    Raises:
        ValueError: If a share is negative or they do not sum to one.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not len(shares) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"weights must not be negative and sum to one: {shares.tolist()}")
    return shares


def _positive(tokens: Sequence[float | int] | np.ndarray) -> np.ndarray:
    sizes = np.asarray(tokens, dtype=np.float64)
    if sizes.ndim != 1 or not len(sizes) or not (sizes > 0).all() or not np.isfinite(sizes).all():
        raise ValueError(f"every source needs a positive number of tokens: {sizes.tolist()}")
    return sizes
