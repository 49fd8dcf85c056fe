"""Denoising objectives: cut spans out of texts, in one way or in several, and ask for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.core.batch import IGNORE, Batch
from llmlib.training.objectives.masked_spans import SpecialTokens, corrupt_spans, random_span_mask


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """One way to corrupt a text."""

    mode: Literal["R", "S", "X"]
    """`R` (regular), `X` (extreme), or `S` (sequential: the end of the text is one span)."""
    rate: float
    """Share of the tokens to cut out, between 0 and 1."""
    mean_span: int | float = 3.0
    """Mean length of a span in tokens; `S` has one span, whatever this says."""

    def mask(
        self, n_rows: int, length: int, generator: torch.Generator | None = None
    ) -> Bool[Tensor, "B T"]:
        """Draw what to cut out of texts of one length: True where a token goes."""
        at_end = self.mode == "S"
        return random_span_mask(
            n_rows,
            length,
            rate=self.rate,
            mean_span=length if at_end else self.mean_span,
            anywhere=not at_end,
            generator=generator,
        )


UL2_DENOISERS: tuple[Denoiser, ...] = (
    Denoiser(mode="R", rate=0.15, mean_span=3),
    Denoiser(mode="R", rate=0.15, mean_span=8),
    Denoiser(mode="S", rate=0.25),
    Denoiser(mode="X", rate=0.5, mean_span=3),
    Denoiser(mode="X", rate=0.5, mean_span=8),
    Denoiser(mode="X", rate=0.15, mean_span=64),
    Denoiser(mode="X", rate=0.5, mean_span=64),
)
"""The seven denoisers of UL2.

References:
    Tay et al. (2022), UL2: Unifying Language Learning Paradigms, table 1.
"""


def span_corruption(
    tokens: Int[Tensor, "B T"],
    special: SpecialTokens,
    *,
    rate: float = 0.15,
    mean_span: int | float = 3.0,
    generator: torch.Generator | None = None,
) -> Batch:
    r"""Cut spans out of each text; the encoder reads the rest, the decoder says what is missing.

    $L = -\log p(\tilde x \mid x_{\setminus \tilde x})$; rate and spans are `span_counts`'.
    `as_one_sequence` makes a batch for a decoder alone of it.

    References:
        Raffel et al. (2020), section 3.1.4; Zhao et al. (2023), section 4.2.3, equation 5.
    """
    mask = random_span_mask(*tokens.shape, rate=rate, mean_span=mean_span, generator=generator)
    return denoise(tokens, mask.to(tokens.device), special)


def mixture_of_denoisers(
    tokens: Int[Tensor, "B T"],
    special: SpecialTokens,
    *,
    denoisers: Sequence[Denoiser] = UL2_DENOISERS,
    weights: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
) -> Batch:
    """Corrupt each text in one of several ways, and name the way by a mode token in front.

    Args:
        weights: How often each way is chosen, relative to each other. Default: all alike.

    Returns:
        The batch, rows of unequal length padded; `denoisers` says how each row was made.

    Raises:
        ValueError: When weights and denoisers differ in number, a weight is no share, or a row has
            too many spans.

    References:
        Tay et al. (2022), UL2, sections 3.1 and 3.2. The paper draws span lengths from a normal or
        uniform distribution of the given mean; here they are T5's, whose mean is exact, and stand
        anywhere: under T5's rule a single span would always be the end of the text, as in `S`.
    """
    shares = torch.ones(len(denoisers)) if weights is None else torch.tensor(weights).float()
    if len(shares) != len(denoisers) or not denoisers:
        raise ValueError(
            f"{len(shares)} weights for {len(denoisers)} denoisers: give one each, for one or more"
        )
    if not (shares.isfinite().all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(f"weights={weights} must be finite and 0 or more, one of them above 0")
    n_rows, length = tokens.shape
    if n_rows < 1:
        raise ValueError("there is no text to corrupt: give one or more")
    chosen = shares.multinomial(n_rows, replacement=True, generator=generator)
    masks = torch.stack([d.mask(n_rows, length, generator) for d in denoisers])  # [way, B, T]
    mask = masks[chosen, torch.arange(n_rows)].to(tokens.device)
    modes = torch.tensor([special.mode(d.mode) for d in denoisers])[chosen].to(tokens.device)
    batch = denoise(tokens, mask, special)
    return {
        **batch,
        "encoder_inputs": torch.cat((modes[:, None], batch["encoder_inputs"]), dim=1),
        "encoder_lengths": batch["encoder_lengths"] + 1,
        "denoisers": chosen,
    }


def denoise(tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"], special: SpecialTokens) -> Batch:
    """Ask for the marked spans of each text: the encoder reads the rest, the decoder says them.

    Rows of unequal length are padded.

    Example:
        >>> special = SpecialTokens(n_text_tokens=50)
        >>> batch = denoise(
        ...     torch.tensor([[7, 8, 9, 10]]), torch.tensor([[False, True, True, False]]), special
        ... )
        >>> [batch[name].tolist() for name in ("encoder_inputs", "decoder_inputs", "targets")]
        [[[7, 54, 10]], [[50, 54, 8, 9]], [[54, 8, 9, 55]]]
    """
    text = corrupt_spans(tokens, mask, special)
    decoder_inputs = F.pad(text.targets[:, :-1], (1, 0), value=special.pad)
    places = torch.arange(text.targets.shape[1], device=tokens.device)
    after_end = places >= text.target_lengths[:, None]
    targets = text.targets.masked_fill(after_end, IGNORE)
    return {
        "encoder_inputs": text.inputs,
        "encoder_lengths": text.input_lengths,
        "decoder_inputs": decoder_inputs,
        "targets": targets,
    }


def as_one_sequence(batch: Batch, special: SpecialTokens) -> Batch:
    """Write both halves of each row one behind the other, for a decoder alone.

    What the encoder would read is the prefix; behind it stand the targets, up to the last of each
    row that counts. Only they count.

    Example:
        >>> from llmlib.training.objectives.causal_and_prefix import split_prefix
        >>> batch = split_prefix(torch.tensor([[3, 1, 4, 1]]), SpecialTokens(n_text_tokens=5), 2)
        >>> one = as_one_sequence(batch, SpecialTokens(n_text_tokens=5))
        >>> [one[name].tolist() for name in ("inputs", "targets", "prefix_lengths")]
        [[[3, 1, 4]], [[-100, 4, 1]], [2]]

    References:
        Wang et al. (2022), What Language Model Architecture and Pretraining Objective Works Best
        for Zero-Shot Generalization?, section 2.2.
    """
    prefix = batch["encoder_lengths"][:, None]
    numbers = torch.arange(1, batch["targets"].shape[1] + 1, device=prefix.device)
    n_targets = ((batch["targets"] != IGNORE) * numbers).amax(dim=1, keepdim=True)
    length = int((prefix + n_targets).max()) - 1
    places = torch.arange(length, device=prefix.device).expand(len(prefix), -1)
    # The decoder's start token falls away: the prefix's last token takes its place.
    place_in_decoder = (places - prefix + 1).clamp(0, batch["targets"].shape[1] - 1)
    place_in_encoder = places.clamp_max(batch["encoder_inputs"].shape[1] - 1)
    inputs = torch.where(
        places < prefix,
        batch["encoder_inputs"].gather(1, place_in_encoder),
        batch["decoder_inputs"].gather(1, place_in_decoder),
    )
    inputs = inputs.masked_fill(places >= prefix + n_targets - 1, special.pad)
    counts = (places >= prefix - 1) & (places < prefix + n_targets - 1)
    targets = batch["targets"].gather(1, place_in_decoder).where(counts, IGNORE)
    return {"inputs": inputs, "targets": targets, "prefix_lengths": batch["encoder_lengths"]}
