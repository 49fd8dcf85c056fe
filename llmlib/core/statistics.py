r"""Intervals for a few measurements, and corrections for many comparisons.

The rules of the book: seeds are fixed before the first run; conditions are compared seed by seed;
an interval that holds zero shows no difference and no equality either, for which a margin is stated
beforehand and the interval lies inside it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An estimate with its interval, 95% unless the maker of it was told otherwise."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @property
    def shows_difference(self) -> bool:
        """Whether zero lies outside: with the sign of `value`, something differs."""
        return self.low > 0 or self.high < 0  # false for ends that are no numbers

    def within(self, margin: float) -> bool:
        """Say whether a difference is smaller, in both directions, than a margin agreed beforehand.

        False is no proof of a difference.

        References:
            Schuirmann (1987), A Comparison of the Two One-Sided Tests Procedure (which asks it of
            the 90% interval; with the 95% one it errs on the safe side).
        """
        if margin <= 0:
            raise ValueError(f"margin={margin} must be above zero")
        return -margin < self.low and self.high < margin


def t_factor(n: int, level: float = 0.95) -> float:
    """Return by how many standard errors an interval reaches to each side of a mean of n values.

    Raises:
        ValueError: For one value, which has no spread, or a level that is no share.

    Example:
        >>> round(t_factor(3), 4), round(t_factor(1000), 4)
        (4.3027, 1.9623)

    References:
        Student (1908), The Probable Error of a Mean.
    """
    if n < 2 or not 0 < level < 1:
        raise ValueError(f"{n} values at level {level}: give two values or more, one a seed")
    from scipy import stats  # here and below: who needs no interval does not wait for it

    return float(stats.t.ppf((1 + level) / 2, n - 1))


def t_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    r"""Return the mean of a few independent measurements and its interval.

    $\bar x \pm t_{n-1}\, s / \sqrt n$

    Example:
        >>> print(t_interval([1.0, 2.0, 3.0]))
        2.00 [-0.48, 4.48]
    """
    numbers = _finite_row(values)
    half = t_factor(len(numbers), level) * numbers.std(ddof=1) / math.sqrt(len(numbers))
    mean = float(numbers.mean())
    return Interval(mean, float(mean - half), float(mean + half))


def paired_interval(
    first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray, level: float = 0.95
) -> Interval:
    """Return the mean of the first less the second condition, seed by seed, and its t interval.

    Raises:
        ValueError: When the two differ in number, or see `t_interval`.

    Example:
        >>> print(paired_interval([1.0, 2.0], [0.5, 1.5]))
        0.50 [0.50, 0.50]
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} measurements: pair them by seed")
    return t_interval(np.subtract(first, second, dtype=np.float64), level)


def t_test(differences: Sequence[float] | np.ndarray) -> float:
    """Return how likely paired differences at least as far from zero are where there is none.

    It is the two-sided p-value of Student's test; 1 where all differences are zero.

    Raises:
        ValueError: For fewer than two differences.

    Example:
        >>> round(t_test([1.0, 2.0, 3.0]), 4)
        0.0742
    """
    numbers = _finite_row(differences)
    if len(numbers) < 2:
        raise ValueError(f"{len(numbers)} differences: give two or more, one a seed")
    if not np.ptp(numbers):
        return float(not numbers.any())
    from scipy import stats

    found: Any = stats.ttest_1samp(numbers, 0)
    return float(found.pvalue)


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    r"""Estimate a share from counts, with Wilson's interval.

    $$\frac{\hat p + \frac{z^2}{2n} \pm z \sqrt{\frac{\hat p (1 - \hat p)}{n} + \frac{z^2}{4 n^2}}}
    {1 + z^2 / n}$$

    Unlike the textbook interval it stays within 0 and 1, and is not empty at 0 or n successes.

    Raises:
        ValueError: If the counts cannot be, or the level is no share.

    Example:
        >>> print(wilson(10, 10))
        1.00 [0.72, 1.00]

    References:
        Wilson (1927), Probable Inference, the Law of Succession, and Statistical Inference.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} is no share")
    _require_share(level)
    from scipy import stats

    found = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    # Rounding can put an end a hair beyond the share itself, or beyond 0 or 1.
    share = successes / trials
    low, high = max(0.0, min(found.low, share)), min(1.0, max(found.high, share))
    return Interval(share, float(low), float(high))


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    statistic: Callable[..., float] = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Return a statistic of a sample and its interval, by drawing the sample again and again.

    The ends are corrected for bias and skewness (BCa); where all values are equal, they are that
    value.

    Args:
        values: Independent measurements, many enough to stand for what they were drawn from (tens,
            not three seeds: for those take `t_interval`).
        statistic: A function of the values along `axis`, as `numpy.median`.

    Raises:
        ValueError: For fewer than two values, values that are not finite, or a level that is no
            share.

    Example:
        >>> print(bootstrap_interval([2.0, 2.0, 2.0]))
        2.00 [2.00, 2.00]

    References:
        Efron (1987), Better Bootstrap Confidence Intervals.
    """
    numbers = _finite_row(values)
    if len(numbers) < 2:
        raise ValueError(f"{len(numbers)} values have no spread: give two or more")
    _require_share(level)
    value = float(statistic(numbers))
    if not np.ptp(numbers):
        return Interval(value, value, value)
    from scipy import stats

    found = stats.bootstrap(
        (numbers,), statistic, confidence_level=level, n_resamples=resamples,
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Interval(value, float(found.low), float(found.high))


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """Correct p-values of all of an experiment's comparisons for there being several.

    Held against a level of 0.05, at most 5% of such experiments reject anything that is true.

    Raises:
        ValueError: If a value is no probability.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]

    References:
        Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("p-values lie between 0 and 1")
    order = values.argsort(kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def _finite_row(values: Sequence[float] | np.ndarray) -> np.ndarray:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError("give a row of finite numbers, one a seed")
    return numbers


def _require_share(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1, as 0.95")
