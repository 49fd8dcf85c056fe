"""Pre-training objectives: from a batch of texts to what a model reads and what it must say."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.corruption import SpecialTokens, corrupt_spans, random_span_mask

IGNORE = -100
"""Target value of a position that does not count, as in `torch.nn.functional.cross_entropy`."""


@dataclass(frozen=True)
class DecoderBatch:
    """What a decoder alone reads: one sequence a row.

    Attributes:
        inputs: Token ids, padded on the right.
        targets: The token to predict at each position, or -100.
        prefix_lengths: Number of first tokens that a prefix decoder lets see each other.
    """

    inputs: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    prefix_lengths: Int[Tensor, " B"]


@dataclass(frozen=True)
class EncoderDecoderBatch:
    """What an encoder-decoder reads: one sequence for each of its halves.

    Attributes:
        encoder_inputs: What the encoder reads, padded on the right.
        encoder_lengths: Tokens of each row before the padding.
        decoder_inputs: The targets one place later, behind a start token.
        targets: The token to predict at each decoder position, or -100 after the end.
        denoisers: Index of the denoiser that made each row, or None when there is one only.
    """

    encoder_inputs: Int[Tensor, "B S"]
    encoder_lengths: Int[Tensor, " B"]
    decoder_inputs: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    denoisers: Int[Tensor, " B"] | None = None


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """One way to corrupt a text.

    Args:
        mode: `R` (regular), `X` (extreme), or `S` (sequential: the end of the text is one span).
        rate: Share of the tokens to cut out, between 0 and 1.
        mean_span: Mean length of a span in tokens; `S` has one span, whatever this says.
    """

    mode: Literal["R", "S", "X"]
    rate: float
    mean_span: int | float = 3.0

    def mask(
        self, n_rows: int, length: int, generator: torch.Generator | None = None
    ) -> Bool[Tensor, "B T"]:
        """Draw what to cut out of texts of one length.

        Args:
            n_rows: Number of texts.
            length: Tokens of each.
            generator: Source of randomness; default: torch's own.

        Returns:
            True where a token is cut out.
        """
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


def language_modeling(tokens: Int[Tensor, "B T1"]) -> DecoderBatch:
    r"""Predict every token from those before it.

    $L = -\sum_t \log p(x_t \mid x_{<t})$

    Args:
        tokens: Token ids of the texts, one more than the model reads.

    Returns:
        The batch; no prefix.

    Example:
        >>> batch = language_modeling(torch.tensor([[3, 1, 4, 1]]))
        >>> batch.inputs.tolist(), batch.targets.tolist()
        ([[3, 1, 4]], [[1, 4, 1]])

    References:
        Zhao et al. (2023), A Survey of Large Language Models, section 4.2.3, equation 4.
    """
    no_prefix = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
    return DecoderBatch(tokens[:, :-1], tokens[:, 1:], no_prefix)


def prefix_language_modeling(
    tokens: Int[Tensor, "B T1"],
    *,
    prefix_lengths: Int[Tensor, " B"] | None = None,
    generator: torch.Generator | None = None,
) -> DecoderBatch:
    r"""Predict the end of each text from its beginning, which is given as a whole.

    $L = -\sum_{t \ge P} \log p(x_t \mid x_{<t})$, where the first P tokens may see each other.

    Args:
        tokens: Token ids of the texts, one more than the model reads.
        prefix_lengths: Tokens of each prefix, from 1 to one less than the text has. Default:
            drawn from these, each length equally likely.
        generator: Source of randomness; default: torch's own.

    Returns:
        The batch. No target counts whose token is in the prefix.

    Raises:
        ValueError: When a prefix leaves nothing to predict, or nothing to start from.

    Example:
        >>> batch = prefix_language_modeling(
        ...     torch.tensor([[3, 1, 4, 1]]), prefix_lengths=torch.tensor([2])
        ... )
        >>> batch.inputs.tolist(), batch.targets.tolist()
        ([[3, 1, 4]], [[-100, 4, 1]])

    References:
        Raffel et al. (2020), Exploring the Limits of Transfer Learning, sections 3.2.1 and 3.3.1;
        Dong et al. (2019), Unified Language Model Pre-training.
    """
    n_rows, length = tokens.shape
    if prefix_lengths is None:
        prefix_lengths = torch.randint(1, length, (n_rows,), generator=generator).to(tokens.device)
    if int(prefix_lengths.min()) < 1 or int(prefix_lengths.max()) >= length:
        raise ValueError(f"prefix_lengths must lie between 1 and {length - 1}, one token less "
                         "than the texts have")  # fmt: skip
    batch = language_modeling(tokens)
    places = torch.arange(length - 1, device=tokens.device)
    in_prefix = places + 1 < prefix_lengths[:, None]  # the target at t is token t + 1
    return DecoderBatch(batch.inputs, batch.targets.masked_fill(in_prefix, IGNORE), prefix_lengths)


def split_prefix(
    tokens: Int[Tensor, "B T1"], special: SpecialTokens, prefix_length: int
) -> EncoderDecoderBatch:
    """Give the beginning of each text to the encoder, and let the decoder predict the rest.

    Args:
        tokens: Token ids of the texts.
        special: The padding, with which the decoder starts.
        prefix_length: Tokens for the encoder, from 1 to one less than the texts have.

    Returns:
        The batch: the prefix language model of an encoder-decoder.

    Raises:
        ValueError: When one half would be empty.

    Example:
        >>> batch = split_prefix(torch.tensor([[3, 1, 4, 1]]), SpecialTokens(n_text_tokens=5), 2)
        >>> batch.encoder_inputs.tolist(), batch.decoder_inputs.tolist(), batch.targets.tolist()
        ([[3, 1]], [[5, 4]], [[4, 1]])
    """
    n_rows, length = tokens.shape
    if not 1 <= prefix_length < length:
        raise ValueError(f"prefix_length={prefix_length} must lie between 1 and {length - 1}")
    prefix, targets = tokens[:, :prefix_length], tokens[:, prefix_length:]
    lengths = torch.full((n_rows,), prefix_length, device=tokens.device)
    decoder_inputs = F.pad(targets[:, :-1], (1, 0), value=special.pad)
    return EncoderDecoderBatch(prefix, lengths, decoder_inputs, targets)


def span_corruption(
    tokens: Int[Tensor, "B T"],
    special: SpecialTokens,
    *,
    rate: float = 0.15,
    mean_span: int | float = 3.0,
    generator: torch.Generator | None = None,
) -> EncoderDecoderBatch:
    r"""Cut spans out of each text; the encoder reads the rest, the decoder says what is missing.

    $L = -\log p(\tilde x \mid x_{\setminus \tilde x})$

    Args:
        tokens: Token ids of the texts.
        special: Sentinels and padding.
        rate: Share of the tokens to cut out.
        mean_span: Mean length of a span in tokens.
        generator: Source of randomness; default: torch's own.

    Returns:
        The batch; `as_one_sequence` makes one for a decoder alone of it.

    Raises:
        ValueError: See `span_counts` and `corrupt_spans`.

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
) -> EncoderDecoderBatch:
    """Corrupt each text in one of several ways, and name the way by a mode token in front.

    Args:
        tokens: Token ids of the texts.
        special: Sentinels, mode tokens and padding.
        denoisers: The ways.
        weights: How often each is chosen, relative to each other. Default: all alike.
        generator: Source of randomness; default: torch's own.

    Returns:
        The batch, rows of unequal length padded; `denoisers` says how each row was made.

    Raises:
        ValueError: When weights and denoisers differ in number, or a row has too many spans.

    References:
        Tay et al. (2022), UL2, sections 3.1 and 3.2. The paper draws span lengths from a normal or
        uniform distribution of the given mean; here they are T5's, whose mean is exact, and stand
        anywhere: under T5's rule a single span would always be the end of the text, as in `S`.
    """
    shares = torch.ones(len(denoisers)) if weights is None else torch.tensor(weights).float()
    if len(shares) != len(denoisers):
        raise ValueError(f"{len(shares)} weights for {len(denoisers)} denoisers: give one each")
    n_rows, length = tokens.shape
    chosen = shares.multinomial(n_rows, replacement=True, generator=generator)
    masks = torch.stack([d.mask(n_rows, length, generator) for d in denoisers])  # [way, B, T]
    mask = masks[chosen, torch.arange(n_rows)].to(tokens.device)
    modes = torch.tensor([special.mode(d.mode) for d in denoisers])[chosen].to(tokens.device)
    batch = denoise(tokens, mask, special)
    return replace(
        batch,
        encoder_inputs=torch.cat((modes[:, None], batch.encoder_inputs), dim=1),
        encoder_lengths=batch.encoder_lengths + 1,
        denoisers=chosen,
    )


def denoise(
    tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"], special: SpecialTokens
) -> EncoderDecoderBatch:
    """Ask for the marked spans of each text: the encoder reads the rest, the decoder says them.

    Args:
        tokens: Token ids of the texts.
        mask: True where a token is cut out.
        special: Sentinels and padding.

    Returns:
        The batch, rows of unequal length padded.

    Raises:
        ValueError: See `corrupt_spans`.

    Example:
        >>> special = SpecialTokens(n_text_tokens=50)
        >>> batch = denoise(
        ...     torch.tensor([[7, 8, 9, 10]]), torch.tensor([[False, True, True, False]]), special
        ... )
        >>> batch.encoder_inputs.tolist(), batch.decoder_inputs.tolist(), batch.targets.tolist()
        ([[7, 54, 10]], [[50, 54, 8, 9]], [[54, 8, 9, 55]])
    """
    text = corrupt_spans(tokens, mask, special)
    decoder_inputs = F.pad(text.targets[:, :-1], (1, 0), value=special.pad)
    places = torch.arange(text.targets.shape[1], device=tokens.device)
    after_end = places >= text.target_lengths[:, None]
    targets = text.targets.masked_fill(after_end, IGNORE)
    return EncoderDecoderBatch(text.inputs, text.input_lengths, decoder_inputs, targets)


def as_one_sequence(batch: EncoderDecoderBatch, special: SpecialTokens) -> DecoderBatch:
    """Write both halves of each row one behind the other, for a decoder alone.

    Args:
        batch: A batch for an encoder-decoder.
        special: The padding.

    Returns:
        What the encoder would read, as prefix, and behind it the targets. Only they count.

    Example:
        >>> batch = split_prefix(torch.tensor([[3, 1, 4, 1]]), SpecialTokens(n_text_tokens=5), 2)
        >>> one = as_one_sequence(batch, SpecialTokens(n_text_tokens=5))
        >>> one.inputs.tolist(), one.targets.tolist(), one.prefix_lengths.tolist()
        ([[3, 1, 4]], [[-100, 4, 1]], [2])

    References:
        Wang et al. (2022), What Language Model Architecture and Pretraining Objective Works Best
        for Zero-Shot Generalization?, section 2.2.
    """
    prefix = batch.encoder_lengths[:, None]
    n_targets = (batch.targets != IGNORE).sum(dim=1, keepdim=True)
    length = int((prefix + n_targets).max()) - 1
    places = torch.arange(length, device=prefix.device).expand(len(prefix), -1)
    # The decoder's start token falls away: the prefix's last token takes its place.
    place_in_decoder = (places - prefix + 1).clamp(0, batch.targets.shape[1] - 1)
    place_in_encoder = places.clamp_max(batch.encoder_inputs.shape[1] - 1)
    inputs = torch.where(
        places < prefix,
        batch.encoder_inputs.gather(1, place_in_encoder),
        batch.decoder_inputs.gather(1, place_in_decoder),
    )
    inputs = inputs.masked_fill(places >= prefix + n_targets - 1, special.pad)
    counts = (places >= prefix - 1) & (places < prefix + n_targets - 1)
    targets = batch.targets.gather(1, place_in_decoder).where(counts, IGNORE)
    return DecoderBatch(inputs, targets, batch.encoder_lengths)
