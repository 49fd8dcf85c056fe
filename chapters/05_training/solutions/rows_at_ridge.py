import math


def rows_at_ridge(inputs: int, outputs: int, bytes_per_number: int, ridge: float) -> int | None:
    """Return the fewest rows with which X W reaches the ridge; None where no number does."""
    moved = ridge * bytes_per_number  # FLOPs that each number must be worth
    a_row = 2 * inputs * outputs - moved * (inputs + outputs)  # what a row earns more than it costs
    if a_row <= 0:
        return None
    return max(1, math.ceil(moved * inputs * outputs / a_row))  # the weight's reading, earned back
