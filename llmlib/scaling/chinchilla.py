r"""The Chinchilla law: the loss as a sum of what size, data and language itself cost.

$$L(N, D) = E + \frac{A}{N^\alpha} + \frac{B}{D^\beta}$$

Minimizing it along $C = 6 N D$ gives the compute-optimal size and data in closed form,

$$N^* = G \left(\frac{C}{6}\right)^{a}, \quad D^* = \frac1G \left(\frac{C}{6}\right)^{b}, \quad
G = \left(\frac{\alpha A}{\beta B}\right)^{1/(\alpha + \beta)}, \quad
a = \frac{\beta}{\alpha + \beta}, \quad b = \frac{\alpha}{\alpha + \beta}.$$

The exponent of N has beta on top: the faster more data helps, the sooner data is plentiful and
the more of a larger budget should go into size. (One edition of the survey prints the two
exponents the other way round.)
"""

from dataclasses import dataclass

from llmlib.scaling.flops import training_flops


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """How a budget is split, and the loss that this buys."""

    compute: int | float
    """Training FLOPs, C."""
    n_params: int | float
    """Weights, N."""
    n_tokens: int | float
    """Training tokens, D."""
    loss: int | float
    """Predicted loss, in nats per token of the law's own data and tokenizer."""

    @property
    def tokens_per_param(self) -> float:
        """D / N."""
        return self.n_tokens / self.n_params


@dataclass(frozen=True, kw_only=True)
class ChinchillaLaw:
    r"""The constants of $L(N, D) = E + A / N^\alpha + B / D^\beta$.

    References:
        Hoffmann et al. (2022), "Training compute-optimal large language models", section 3.3,
        equations 2 and 4.
    """

    E: int | float
    """Irreducible loss in nats per token: the entropy of the text."""
    A: int | float
    """Scale of the cost of a finite model."""
    B: int | float
    """Scale of the cost of finite data."""
    alpha: int | float
    """Exponent of the model's size."""
    beta: int | float
    """Exponent of the data's."""

    def __post_init__(self) -> None:
        if self.E < 0 or min(self.A, self.B, self.alpha, self.beta) <= 0:
            raise ValueError(f"E must not be negative and the other constants positive: {self}")

    @property
    def size_exponent(self) -> float:
        """The a of N* proportional to C^a, beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def data_exponent(self) -> float:
        """The b of D* proportional to C^b, alpha / (alpha + beta)."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def balance(self) -> float:
        """G, the optimal size at C = 6 FLOPs."""
        ratio = self.alpha * self.A / (self.beta * self.B)
        return ratio ** (1.0 / (self.alpha + self.beta))

    def loss(self, n_params: int | float, n_tokens: int | float) -> float:
        """Predict the loss in nats per token, from tokens each seen once.

        Raises:
            ValueError: If a number is not positive.

        Example:
            >>> round(BESIROGLU_2024.loss(70e9, 1.4e12), 3)  # Chinchilla itself
            1.974
        """
        if n_params <= 0 or n_tokens <= 0:
            raise ValueError(f"n_params={n_params} and n_tokens={n_tokens} must be positive")
        return self.E + self.A / n_params**self.alpha + self.B / n_tokens**self.beta

    def optimal_allocation(self, compute: int | float) -> Allocation:
        """Split a budget of training FLOPs so that the predicted loss is lowest.

        Raises:
            ValueError: If compute is not positive.
        """
        if compute <= 0:
            raise ValueError(f"compute must be positive, got {compute}")
        n_params = self.balance * (compute / 6.0) ** self.size_exponent
        n_tokens = (compute / 6.0) ** self.data_exponent / self.balance
        return Allocation(
            compute=compute,
            n_params=n_params,
            n_tokens=n_tokens,
            loss=self.loss(n_params, n_tokens),
        )

    def allocation_for_params(self, n_params: int | float) -> Allocation:
        """Find the budget at which a size is the best choice.

        Raises:
            ValueError: If n_params is not positive.
        """
        if n_params <= 0:
            raise ValueError(f"n_params must be positive, got {n_params}")
        scaled = (n_params / self.balance) ** (1.0 / self.size_exponent)  # C / 6 = N D
        n_tokens = scaled / n_params
        return Allocation(
            compute=training_flops(n_params, n_tokens),
            n_params=n_params,
            n_tokens=n_tokens,
            loss=self.loss(n_params, n_tokens),
        )


HOFFMANN_2022 = ChinchillaLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
"""The constants as the paper prints them, rounded.

They do not give the paper's own model: at Gopher's 5.76e23 FLOPs they ask for about 32 billion
parameters and 3.0 trillion tokens, where the paper trained 70 billion on 1.4 trillion. Exponents
rounded to two digits are raised to powers of 1e23, and the fit itself had stopped early.
"""

BESIROGLU_2024 = ChinchillaLaw(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
"""A refit of the same runs, read off the paper's figure; about 72 billion and 1.3 trillion there.

References:
    Besiroglu et al. (2024), "Chinchilla scaling: A replication attempt".
"""

GOPHER_COMPUTE = 5.76e23
"""FLOPs of Gopher, the budget at which Hoffmann et al. (2022) trained Chinchilla."""


def optimal_allocation(compute: int | float, law: ChinchillaLaw = BESIROGLU_2024) -> Allocation:
    """Split a budget of training FLOPs between size and data, under a law.

    Example:
        >>> best = optimal_allocation(GOPHER_COMPUTE)
        >>> f"{best.n_params / 1e9:.0f} B parameters, {best.n_tokens / 1e12:.2f} T tokens"
        '72 B parameters, 1.33 T tokens'
    """
    return law.optimal_allocation(compute)
