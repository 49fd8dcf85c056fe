"""RoPE's frequencies beyond the length that a model was trained for."""

from jaxtyping import Float
from torch import Tensor

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.rope import rope_frequencies


def rope_table(config: ModelConfig, n_positions: int) -> tuple[Float[Tensor, " half"], float]:
    """Return the frequencies that a configuration asks for, and a factor of cosine and sine.

    Args:
        config: The model's configuration.
        n_positions: Length of the text in tokens, on which `dynamic` depends.

    Returns:
        Radians per position, and the factor: 1 but for `yarn`.

    Raises:
        ValueError: For a scaling that is not built yet.
    """
    width = config.rope_head_dim if config.mixer == "latent" else config.head_dim
    frequencies = rope_frequencies(width, config.rope_theta)
    if config.rope_scaling in ("none", "rerope"):
        return frequencies, 1.0
    raise ValueError(f"rope_scaling={config.rope_scaling!r} is not built yet")
