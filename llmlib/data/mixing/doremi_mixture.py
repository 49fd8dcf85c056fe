r"""Weights learnt by a small model: more of what it could still learn (DoReMi).

A reference model says how well each domain can be predicted; a proxy is trained against an
opponent who moves the weights to the domains where the proxy lags furthest behind:

$\min_\theta \max_\alpha \sum_i \alpha_i \, \lambda_i(\theta)$, with
$\lambda_i = \frac{1}{|D_i|} \sum_{x \in D_i} \max(\ell_\theta(x) - \ell_{\text{ref}}(x), 0)$
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from llmlib.data.mixing.mixtures import checked_weights


def clipped_excess(
    proxy: Float[np.ndarray, " tokens"],
    reference: Float[np.ndarray, " tokens"],
    domains: Int[np.ndarray, " tokens"],
    n_domains: int,
) -> Float[np.ndarray, " domains"]:
    """Average by domain how much worse the proxy predicts tokens than the reference.

    Returns:
        Mean of `max(proxy - reference, 0)`, never negative; NaN for a domain without a token.

    Example:
        >>> clipped_excess(np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 2.0]),
        ...                np.array([0, 0, 1]), 2).tolist()
        [1.0, 0.0]
    """
    excess = np.maximum(proxy - reference, 0)
    counts = np.bincount(domains, minlength=n_domains)
    sums = np.bincount(domains, weights=excess, minlength=n_domains)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True)
class LearnedMixture:
    """Weights that were learnt, and the way there."""

    weights: np.ndarray
    """The average of the weights of all steps: the mixture to train the large model on."""
    path: np.ndarray
    """The weights of each step, `[steps, domains]`."""
    excess: np.ndarray
    """The excess losses that each step saw, `[steps, domains]`."""


def doremi(
    measure: Callable[[], np.ndarray],
    train: Callable[[np.ndarray], None],
    *,
    initial: Sequence[float | int] | np.ndarray,
    steps: int,
    step_size: float | int = 1.0,
    smoothing: float | int = 1e-3,
) -> LearnedMixture:
    r"""Learn the weights of domains against a proxy model.

    Each step multiplies the weights by $\exp(\eta \lambda_i)$, normalizes them, mixes in a little
    of the uniform mixture so that none dies out, and lets the proxy train with them.

    Args:
        measure: Returns the proxy's clipped excess loss of each domain on its next batch, drawn
            evenly from all domains (see `clipped_excess`); NaN leaves a domain's weight as it is.
        train: Takes the new weights and makes one step of the proxy on the weighted loss of that
            batch.
        step_size: $\eta$, above 0.
        smoothing: Share of the uniform mixture, 0 to 1.

    Raises:
        ValueError: If a setting is out of range, or losses are negative or of the wrong number.

    References:
        Xie et al. (2023), DoReMi, algorithm 1 (its settings: eta 1, smoothing 1e-3, and domain
        weights sampled uniformly in the proxy's batches).
    """
    weights = checked_weights(initial)
    if steps < 1 or not step_size > 0 or not 0 <= smoothing <= 1:
        raise ValueError(
            f"steps={steps} and step_size={step_size} must be positive, smoothing={smoothing} "
            "between 0 and 1"
        )
    path, seen = [], []
    for _ in range(steps):
        excess = np.asarray(measure(), dtype=np.float64)
        if excess.shape != weights.shape or (excess < 0).any():
            raise ValueError(
                f"measure returned {excess.tolist()} for {len(weights)} domains: clip excess "
                "losses at zero"
            )
        logs = np.log(np.maximum(weights, 1e-300)) + step_size * np.nan_to_num(excess)
        raised = np.exp(logs - logs.max())
        weights = (1 - smoothing) * raised / raised.sum() + smoothing / len(weights)
        train(weights)
        path.append(weights)
        seen.append(excess)
    return LearnedMixture(np.mean(path, axis=0), np.stack(path), np.stack(seen))
