r"""Utilization: the share of a machine's peak that went into the model's own arithmetic.

$$\mathrm{MFU} = \frac{\text{tokens/s} \cdot \text{FLOPs of a token}}{\text{peak FLOP/s}}$$
"""

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import decoder_training_flops, mixing_flops
from llmlib.scaling.flops import mfu


def model_utilization(
    config: ModelConfig,
    *,
    tokens_per_second: float,
    peak_flops: float,
    seq_len: int | None = None,
    attention: bool = True,
) -> float:
    r"""Return the model FLOPs utilization (MFU) of a training run.

    A token costs $6 N + 12 L H K T$ FLOPs, forward and backward: N the parameters that multiply,
    the output matrix among them, and attention over all T tokens of a row, masked or not. That is
    the convention of the published figures; halve the second term to count the causal half only.

    Args:
        peak_flops: FLOP/s of all devices together.
        seq_len: Tokens a row, T. Default: the longest that the configuration allows.
        attention: Whether attention's own products count.

    Raises:
        ValueError: When a rate is not positive.

    Example:
        >>> llama = ModelConfig(
        ...     vocab_size=32_000, d_model=8192, n_layers=80, n_heads=64, max_seq_len=2048,
        ...     d_ff=22_016, tie_embeddings=False,
        ... )
        >>> f"{model_utilization(llama, tokens_per_second=380, peak_flops=312e12):.3f}"
        '0.495'

    References:
        Chowdhery et al. (2022), PaLM, section 4.1 and appendix B; the example's tokens a second are
        those of Touvron et al. (2023), LLaMA, section 2.4.
    """
    tokens = config.max_seq_len if seq_len is None else seq_len
    flops = decoder_training_flops(config, 1, tokens)
    if not attention:
        flops -= 3 * config.n_layers * mixing_flops(config, tokens)
    return mfu(flops / tokens * tokens_per_second, 1.0, peak_flops)


def hardware_utilization(model_utilization: float, *, recomputed: float) -> float:
    r"""Return the hardware FLOPs utilization (HFU): the arithmetic that is done twice counts twice.

    $\mathrm{HFU} = \mathrm{MFU} \cdot (1 + r/3)$: a forward pass is a third of a step, and the
    share r of it is done again in the backward pass.

    Args:
        model_utilization: MFU.
        recomputed: Share of the forward pass's FLOPs that is done again, from 0 to 1.

    Raises:
        ValueError: If the share is out of range.

    Example:
        >>> round(hardware_utilization(0.45, recomputed=1.0), 2)
        0.6

    References:
        Chowdhery et al. (2022), PaLM, section 4.1; Korthikanti et al. (2022), section 6.3.
    """
    if not 0 <= recomputed <= 1:
        raise ValueError(f"recomputed={recomputed} is a share: from 0 to 1")
    return model_utilization * (1 + recomputed / 3)
