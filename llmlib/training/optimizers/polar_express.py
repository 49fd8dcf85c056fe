"""Polar Express: for each step of Muon's iteration the polynomial that is best after the last."""

import math

import numpy as np

Quintic = tuple[float, float, float]

_CUSHION = 0.02407327424182761  # of Amsel et al.: keeps the slope at the upper end in bounds
_SAFETY = 1.01  # rounding may lift a singular value above 1, where the polynomials grow


def best_quintic(low: float, high: float) -> tuple[Quintic, float]:
    r"""Return the odd $p(x) = ax + bx^3 + cx^5$ that stays closest to 1 on an interval.

    Its error swings four times between $+E$ and $-E$, at both ends and at two places between, where
    the slope is zero; Remez' exchange finds them.

    Returns:
        (a, b, c), and the largest error E.

    Raises:
        ValueError: If the interval is empty, endless, or holds a number that is not above 0.

    Example:
        >>> (a, b, c), error = best_quintic(0.5, 1.0)
        >>> all(abs(abs(a * x + b * x**3 + c * x**5 - 1) - error) < 1e-9 for x in (0.5, 1.0))
        True
    """
    if not 0 < low <= high < math.inf:
        raise ValueError(
            f"the interval from {low} to {high} is empty, endless or holds a number that is not "
            "above 0"
        )
    if low / high > 1 - 5e-6:  # the exchange would divide nothing by nothing; here is its limit
        return (15 / 8 / high, -10 / 8 / high**3, 3 / 8 / high**5), 0.0
    inner, outer = (3 * low + high) / 4, (low + 3 * high) / 4
    error = math.inf
    while True:
        places = np.array([low, inner, outer, high])
        system = np.column_stack([places, places**3, places**5, [1, -1, 1, -1]])
        a, b, c, swing = np.linalg.solve(system, np.ones(4)).tolist()
        if abs(abs(swing) - error) < 1e-15:
            return (a, b, c), abs(swing)
        error = abs(swing)
        root = math.sqrt(max(9 * b * b - 20 * a * c, 0.0))  # of a + 3bx² + 5cx⁴ = 0
        inner, outer = (math.sqrt((-3 * b - sign * root) / (10 * c)) for sign in (1, -1))


def polar_express(steps: int = 5, low: float = 1e-3) -> list[Quintic]:
    r"""Return Muon's coefficients, one set a step, each best for what the last one left.

    A step maps singular values between `low` and 1 into a narrower interval round 1; the next is
    made for that interval. Jordan's one set of coefficients never comes closer than 0.3; these
    converge. Give them to `orthogonalize` or `Muon`.

    Args:
        low: Least singular value, as a share of the largest, that is to reach 1.

    Raises:
        ValueError: If there is no step, or `low` is not between 0 and 1.

    Example:
        >>> [round(x, 4) for x in polar_express()[0]]
        [8.2052, -22.9019, 16.4607]

    References:
        Amsel et al. (2025), The Polar Express: Optimal Matrix Sign Methods and Their Application
        to the Muon Algorithm, algorithm 1 and section 4.4.
    """
    if steps < 1 or not 0 < low < 1:
        raise ValueError(f"steps={steps} must be 1 or more, and low={low} between 0 and 1")
    found: list[Quintic] = []
    high = 1.0
    for step in range(steps):
        (a, b, c), _ = best_quintic(max(low, _CUSHION * high), high)

        def image(x: float, a: float = a, b: float = b, c: float = c) -> float:
            return a * x + b * x**3 + c * x**5

        # Where the cushion cut the interval short, the images lie round another number than 1.
        centre = (image(low) + image(high)) / 2
        a, b, c = a / centre, b / centre, c / centre
        low = min(image(low) / centre, 1.0)  # rounding may pass it
        high = 2 - low
        last = step == steps - 1
        scale = 1.0 if last else _SAFETY
        found.append((a / scale, b / scale**3, c / scale**5))
    return found
