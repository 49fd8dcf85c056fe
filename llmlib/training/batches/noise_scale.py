"""How much of a gradient is noise, and up to which batch averaging more of it away pays."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmlib.core.batch import Batch, LossFn, count_targets


@dataclass(frozen=True, kw_only=True)
class GradientNoise:
    r"""Two parts of a gradient: what all examples share, and how far one strays from it.

    $B_\mathrm{noise} = \mathrm{tr}\,\Sigma / |g|^2$ is the batch at which noise and signal are
    equally large. Both parts are estimated without bias, so that each may come out below zero where
    it is small; their ratio has a bias, so average the parts and divide last (`pooled`).

    Example:
        >>> GradientNoise(signal=0.5, noise=100.0).scale
        200.0

    References:
        McCandlish et al. (2018), An Empirical Model of Large-Batch Training, section 2.2, where
        this is $\mathcal B_\mathrm{simple}$.
    """

    signal: float
    """Squared norm of the gradient of the whole distribution, $|g|^2$."""
    noise: float
    r"""$\mathrm{tr}\,\Sigma$, the variance of a single token's gradient, summed over parameters."""

    @property
    def scale(self) -> float:
        """Noise over signal, in the unit in which batches were counted."""
        return self.noise / self.signal

    @classmethod
    def pooled(cls, estimates: Iterable["GradientNoise"]) -> "GradientNoise":
        """Average several estimates part by part.

        Raises:
            ValueError: When there is none.
        """
        found = list(estimates)
        if not found:
            raise ValueError("there is no estimate to average: give one or more")
        return cls(
            signal=sum(one.signal for one in found) / len(found),
            noise=sum(one.noise for one in found) / len(found),
        )


def split_noise(
    small: float, large: float, *, small_batch: float, large_batch: float
) -> GradientNoise:
    r"""Estimate both parts from squared gradient norms at two batch sizes.

    A batch of b has $\mathbb E|g_b|^2 = |g|^2 + \mathrm{tr}\,\Sigma / b$; two sizes make two
    equations:
    $$|g|^2 \approx \frac{B |g_B|^2 - b |g_b|^2}{B - b}, \qquad
    \mathrm{tr}\,\Sigma \approx \frac{|g_b|^2 - |g_B|^2}{1/b - 1/B}$$

    Args:
        small: Squared norm at the smaller batch, or better the mean of several.
        large: Squared norm at the larger batch.

    Raises:
        ValueError: When the batches are not two sizes.

    Example:
        >>> split_noise(5.0, 2.0, small_batch=1, large_batch=4)  # 1 + 4 / 1 and 1 + 4 / 4
        GradientNoise(signal=1.0, noise=4.0)

    References:
        McCandlish et al. (2018), appendix A.1.
    """
    if not 0 < small_batch < large_batch:
        raise ValueError(
            f"batches of {small_batch} and {large_batch}: give two sizes, the smaller first"
        )
    return GradientNoise(
        signal=(large_batch * large - small_batch * small) / (large_batch - small_batch),
        noise=(small - large) / (1 / small_batch - 1 / large_batch),
    )


def measure_noise(model: nn.Module, batches: Iterable[Batch], loss_fn: LossFn) -> GradientNoise:
    """Estimate the noise of a model's gradient from micro-batches; the batch counts targets.

    The micro-batches are the small batches and their union is the large one, as in an update that
    accumulates them, so that measuring costs no more than the update. The tokens of a row depend on
    each other: the scale counts them, but it is rows that average.

    Args:
        loss_fn: `loss_fn(model, batch)`, a mean over the targets that count.

    Raises:
        ValueError: When there are fewer than two micro-batches, one counts other than the rest, or
            nothing counts; when no parameter needs a gradient.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> def mean(model, batch):  # the gradient is the mean of the inputs
        ...     return model(batch["x"]).mean()
        >>> rows = [{"x": torch.tensor([[value]])} for value in (1.0, 3.0)]
        >>> measure_noise(model, rows, mean)  # variance 2; the mean, 2, squared less half of it
        GradientNoise(signal=3.0, noise=2.0)
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the model needs a gradient: unfreeze some")
    total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
    norms, counts = list[float](), list[int]()
    for batch in batches:
        counts.append(count_targets(batch))
        # What the loss does not use has a gradient of zero.
        gradients = torch.autograd.grad(loss_fn(model, batch), parameters, materialize_grads=True)
        norms.append(_squared_norm(gradients))
        for so_far, gradient in zip(total, gradients, strict=True):
            so_far += gradient
    if len(norms) < 2 or len(set(counts)) > 1 or not counts[0]:
        raise ValueError(
            f"micro-batches of {counts} targets: give two or more, each with as many as the others "
            "and not with none"
        )
    return split_noise(
        sum(norms) / len(norms),
        _squared_norm(total) / len(norms) ** 2,
        small_batch=counts[0],
        large_batch=sum(counts),
    )


def steps_to_target(batch: float, *, least_steps: float, critical_batch: float) -> float:
    r"""Return how many steps a run at one batch takes to a loss that others reach at other batches.

    Steps S and examples $E = BS$ trade as $(S / S_\mathrm{min} - 1)(E / E_\mathrm{min} - 1) = 1$,
    that is $S = S_\mathrm{min}\,(1 + B_\mathrm{crit} / B)$ with
    $B_\mathrm{crit} = E_\mathrm{min} / S_\mathrm{min}$: at the critical batch a run takes twice the
    fewest steps and twice the fewest examples.

    Raises:
        ValueError: When the batch is not above 0.

    Example:
        >>> steps_to_target(500, least_steps=1000, critical_batch=500)
        2000.0

    References:
        McCandlish et al. (2018), equation 2.11; Kaplan et al. (2020), section 5.1.
    """
    if not batch > 0:
        raise ValueError(f"batch={batch} must be above 0")
    return least_steps * (1 + critical_batch / batch)


def _squared_norm(tensors: Iterable[Tensor]) -> float:
    return sum(tensor.double().square().sum().item() for tensor in tensors)
