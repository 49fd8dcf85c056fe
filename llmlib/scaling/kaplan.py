r"""The power laws of Kaplan et al. (2020), "KM" in the survey, with their published constants.

$$L(N) = \left(\frac{N_c}{N}\right)^{\alpha_N}, \quad
L(D) = \left(\frac{D_c}{D}\right)^{\alpha_D}, \quad
L(C) = \left(\frac{C_c}{C}\right)^{\alpha_C}$$

Each holds when the other two do not limit. N counts weights without embeddings, D tokens, and C
PF-days of compute spent in the best way (C_min in the paper); the loss is in nats per token of
WebText2 with GPT-2's tokenizer.
"""

from dataclasses import dataclass

from llmlib.scaling.flops import PF_DAY


@dataclass(frozen=True)
class PowerLaw:
    r"""$L(x) = (x_c / x)^\alpha$."""

    scale: int | float
    """x_c, the x at which the loss would be 1 nat."""
    exponent: int | float

    def loss(self, x: int | float) -> float:
        """Predict the loss in nats per token for weights, tokens or PF-days, as the law's scale.

        Raises:
            ValueError: If x is not positive.
        """
        if x <= 0:
            raise ValueError(f"a power law needs a positive number, got {x}")
        return (self.scale / x) ** self.exponent


SIZE = PowerLaw(scale=8.8e13, exponent=0.076)
"""L(N): N weights without embeddings. Kaplan et al. (2020), equation 1.1."""
DATA = PowerLaw(scale=5.4e13, exponent=0.095)
"""L(D): D tokens, trained until the held-out loss stops falling. Equation 1.2."""
COMPUTE = PowerLaw(scale=3.1e8, exponent=0.050)
"""L(C): C PF-days, spent in the best way. Equation 1.3."""


def loss_from_flops(flops: int | float) -> float:
    """Predict the loss, in nats per token, of the best model that a budget can train.

    Example:
        >>> round(loss_from_flops(3.14e23), 2)  # GPT-3's budget, two decades past the fitted runs
        1.76
    """
    return COMPUTE.loss(flops / PF_DAY)


@dataclass(frozen=True)
class JointLaw:
    r"""The loss when both the size and the data are limited.

    $$L(N, D) = \left[\left(\frac{N_c}{N}\right)^{\alpha_N/\alpha_D}
    + \frac{D_c}{D}\right]^{\alpha_D}$$

    The constants are those of a joint fit and differ from the single laws'.

    References:
        Kaplan et al. (2020), equation 1.5 and table 2.
    """

    size_scale: int | float = 6.4e13
    size_exponent: int | float = 0.076
    data_scale: int | float = 1.8e13
    data_exponent: int | float = 0.103

    def loss(self, n_params: int | float, n_tokens: int | float) -> float:
        """Predict the loss, in nats per token, of training on limited data until it stops falling.

        Raises:
            ValueError: If a number is not positive.
        """
        if n_params <= 0 or n_tokens <= 0:
            raise ValueError(f"n_params={n_params} and n_tokens={n_tokens} must be positive")
        of_size = (self.size_scale / n_params) ** (self.size_exponent / self.data_exponent)
        return (of_size + self.data_scale / n_tokens) ** self.data_exponent

    def data_growth(self, size_growth: int | float) -> float:
        r"""Return how much more data a larger model needs to be held back by it no more.

        The share of the loss that is due to the data depends only on the ratio of the two terms
        in the bracket, so D must grow as $N^{\alpha_N / \alpha_D} \approx N^{0.74}$.

        Example:
            >>> round(JointLaw().data_growth(8), 1)  # the paper: 8 times the size, 5 times the data
            4.6
        """
        return size_growth ** (self.size_exponent / self.data_exponent)


JOINT = JointLaw()
"""The joint law with the published constants."""

SIZE_EXPONENT_OF_COMPUTE = 0.73
"""Best N grows as C^0.73. Kaplan et al. (2020), table 6."""
DATA_EXPONENT_OF_COMPUTE = 0.27
"""Tokens processed grow as C^0.27: batch as C^0.24, steps as C^0.03. The same table."""


def allocation_growth(compute_growth: int | float) -> tuple[float, float]:
    """Return how size and data grow when a budget grows, after Kaplan et al.

    For 10 times the compute the exponents give 5.4 and 1.9; Hoffmann et al. (2022) and the survey
    quote 5.5 and 1.8 (exponents 0.74 and 0.26). Either way most of the budget goes into size,
    where Chinchilla's law gives size and data about the same factor.

    Raises:
        ValueError: If the factor is not positive.

    Example:
        >>> size, data = allocation_growth(10)
        >>> round(size, 1), round(data, 1)
        (5.4, 1.9)
    """
    if compute_growth <= 0:
        raise ValueError(f"compute_growth must be positive, got {compute_growth}")
    return (
        compute_growth**SIZE_EXPONENT_OF_COMPUTE,
        compute_growth**DATA_EXPONENT_OF_COMPUTE,
    )
