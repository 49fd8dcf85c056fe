r"""How good a filter is, with the uncertainty that a few hundred labelled items leave."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llmlib.core.statistics import Interval, wilson


@dataclass(frozen=True, kw_only=True)
class Score:
    """Precision and recall of a yes-or-no filter."""

    precision: Interval
    """Of what it flagged, the share that deserved it."""
    recall: Interval
    """Of what deserved it, the share that it flagged."""


def precision_recall(labels: Sequence[bool], flags: Sequence[bool]) -> Score:
    """Compare a filter's flags with labels; the intervals are Wilson's, of 95%.

    Raises:
        ValueError: If the lengths differ, or nothing deserves a flag or nothing got one, which
            leaves one of the shares undefined.

    Example:
        >>> print(precision_recall([True, True, False], [True, False, False]).recall)
        0.50 [0.09, 0.91]
    """
    if len(labels) != len(flags):
        raise ValueError(f"{len(labels)} labels and {len(flags)} flags do not match")
    if not any(labels) or not any(flags):
        raise ValueError("precision and recall need an item that deserves a flag and one flagged")
    right = sum(label and flag for label, flag in zip(labels, flags, strict=True))
    return Score(precision=wilson(right, sum(flags)), recall=wilson(right, sum(labels)))


def auc(
    positive: Float[np.ndarray, " positives"], negative: Float[np.ndarray, " negatives"]
) -> Interval:
    r"""Measure how often a positive item scores above a negative one.

    $$\mathrm{AUC} = P(s^+ > s^-) + \tfrac12 P(s^+ = s^-)$$

    It is 1/2 for a coin and 1 for a perfect order. The interval is DeLong's: it treats the share
    of negatives below each positive, and of positives above each negative, as two samples.

    Returns:
        The area under the ROC curve and its 95% interval, cut at 0 and 1.

    Raises:
        ValueError: If one of the classes has fewer than two items.

    Example:
        >>> auc(np.array([0.9, 0.4]), np.array([0.1, 0.5])).value
        0.75

    References:
        DeLong, DeLong and Clarke-Pearson (1988), Comparing the Areas under Two or More Correlated
        Receiver Operating Characteristic Curves.
    """
    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        raise ValueError(f"an interval needs two items of each class, got {m} and {n}")
    below = _rank(np.sort(negative), positive) / n  # [positives]
    above = 1 - _rank(np.sort(positive), negative) / m  # [negatives]
    value = float(below.mean())
    spread = 1.959963985 * (below.var(ddof=1) / m + above.var(ddof=1) / n) ** 0.5
    return Interval(value=value, low=max(0.0, value - spread), high=min(1.0, value + spread))


def _rank(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How many of the ordered numbers lie below each value, ties counted half."""
    left = np.searchsorted(ordered, values, side="left")
    return (left + np.searchsorted(ordered, values, side="right")) / 2
