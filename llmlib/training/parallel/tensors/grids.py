"""What a product costs whose matrices lie on a row, a square, a stack of squares or a cube."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GridCost:
    """Numbers, not bytes, of one product Y = X W with both of its gradients."""

    processes: int
    sent: int
    """Numbers that all processes send together, forward and backward."""
    held: float
    """Numbers of X, W and Y that a process keeps from the forward pass to the backward pass."""


def _require(rows: int, inputs: int, outputs: int, **grid: int) -> None:
    if min(rows, inputs, outputs, *grid.values()) < 1:
        raise ValueError(f"{rows} x {inputs} x {outputs} on {grid}: every length is at least 1")


def cost_on_a_row(processes: int, rows: int, inputs: int, outputs: int) -> GridCost:
    r"""Return the cost of a product that is split by columns over P processes.

    X (a x b) is whole everywhere, $W_j$ and $Y_j$ are columns. Forward nothing travels; backward
    $\nabla X = \sum_j \nabla Y_j W_j^\top$ is a sum over the processes, of which all of them send
    $2 (P - 1)\, ab$ numbers. A product split by rows sends Y's sum forward instead.

    Example:
        >>> cost_on_a_row(4, rows=6, inputs=8, outputs=12)
        GridCost(processes=4, sent=288, held=90.0)

    References:
        Shoeybi et al. (2019), Megatron-LM, section 3.
    """
    _require(rows, inputs, outputs, processes=processes)
    return GridCost(
        processes=processes,
        sent=2 * (processes - 1) * rows * inputs,
        held=rows * inputs + (inputs * outputs + rows * outputs) / processes,
    )


def cost_on_squares(side: int, rows: int, inputs: int, outputs: int, *, depth: int = 1) -> GridCost:
    r"""Return the cost of SUMMA on d squares of q x q processes, each with 1/d of the rows.

    One square (d = 1) is the 2D way, several are 2.5D (Tesseract). W's blocks lie on every square,
    X's and Y's on one. On each square a block of X goes to the $q - 1$ others of its row and a
    block of W to those of its column: $(q - 1)(\tfrac{ab}{d} + bc)$ numbers forward. Backward the
    blocks of W travel again for $\nabla X$, which is collected along rows, and those of X for
    $\nabla W$, collected along columns: twice as much. Over d squares that makes
    $3 (q - 1)(ab + d\,bc)$; then each block of $\nabla W$ is summed over the squares by a ring,
    $2 (d - 1)\, bc$ in all.

    Args:
        side: q.
        depth: d, the squares; $P = q^2 d$.

    Example:
        >>> cost_on_squares(2, rows=6, inputs=8, outputs=12).sent
        432
        >>> cost_on_squares(2, rows=6, inputs=8, outputs=12, depth=2)
        GridCost(processes=8, sent=912, held=39.0)

    References:
        Van de Geijn and Watts (1997), SUMMA; Wang et al. (2021), Tesseract: Parallelize the Tensor
        Parallelism Efficiently, section 3; Solomonik and Demmel (2011), for 2.5D matrix products.
    """
    _require(rows, inputs, outputs, side=side, depth=depth)
    x, w, y = rows * inputs, inputs * outputs, rows * outputs
    processes = side * side * depth
    return GridCost(
        processes=processes,
        sent=3 * (side - 1) * (x + depth * w) + 2 * (depth - 1) * w,
        held=(x + y) / processes + w / side**2,
    )


def cost_on_a_cube(side: int, rows: int, inputs: int, outputs: int) -> GridCost:
    r"""Return the cost of a product on a cube of l x l x l processes, each with 1/P of everything.

    Process (i, j, k) multiplies $X_{ik}$ by $W_{kj}$. Of $X_{ik}$ each of the l processes (i, ., k)
    keeps a part, and gathers the others' when it multiplies: $(l - 1)\, ab$ numbers in all, and so
    with $W_{kj}$ over i. The parts of $Y_{ij}$ are summed over k, each process keeping a share:
    $(l - 1)\, ac$. Backward $\nabla Y$ is gathered once, X and W again, and $\nabla X$ and
    $\nabla W$ are scattered sums. Together $(l - 1)(3 ab + 3 bc + 2 ac)$.

    Args:
        side: l; $P = l^3$.

    Example:
        >>> cost_on_a_cube(2, rows=6, inputs=8, outputs=12)
        GridCost(processes=8, sent=576, held=27.0)

    References:
        Agarwal et al. (1995), A Three-Dimensional Approach to Parallel Matrix Multiplication; Bian
        et al. (2021), Maximizing Parallelism in Distributed Training for Huge Neural Networks,
        section 3.
    """
    _require(rows, inputs, outputs, side=side)
    x, w, y = rows * inputs, inputs * outputs, rows * outputs
    return GridCost(
        processes=side**3,
        sent=(side - 1) * (3 * x + 3 * w + 2 * y),
        held=(x + w + y) / side**3,
    )
