"""Cutting spans out of a text, as denoising objectives do, and putting them back."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

MODES = ("R", "S", "X")


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The ids that stand in a corrupted text beside the text's own.

    They follow the text's ids: padding, one mode token each for R, S and X, then the sentinels,
    which number the spans.

    Example:
        >>> special = SpecialTokens(n_text_tokens=50, n_sentinels=4)
        >>> special.pad, special.mode("X"), special.sentinel, special.vocab_size
        (50, 53, 54, 58)

    References:
        Raffel et al. (2020), Exploring the Limits of Transfer Learning with a Unified Text-to-Text
        Transformer, section 3.1.4. T5's released vocabulary numbers its 100 sentinels downwards
        from the last id; here they count upwards.
    """

    n_text_tokens: int
    """Number of ids that the text itself uses, 0 to `n_text_tokens - 1`."""
    n_sentinels: int = 100
    """Number of sentinels; a text with n spans needs `n + 1`."""

    def __post_init__(self) -> None:
        if self.n_text_tokens < 1 or self.n_sentinels < 2:
            raise ValueError(
                f"n_text_tokens={self.n_text_tokens} must be at least 1 and "
                f"n_sentinels={self.n_sentinels} at least 2: one span, and the end"
            )

    @property
    def pad(self) -> int:
        """Fills rows up; also the token with which a decoder starts."""
        return self.n_text_tokens

    def mode(self, name: str) -> int:
        """Return the token that names a denoiser, `R`, `S` or `X`.

        Raises:
            ValueError: When it is another name.
        """
        if name not in MODES:
            raise ValueError(f"mode={name!r} is unknown: one of {MODES}")
        return self.n_text_tokens + 1 + MODES.index(name)

    @property
    def sentinel(self) -> int:
        """The first sentinel; span k has the id `sentinel + k`."""
        return self.n_text_tokens + 1 + len(MODES)

    @property
    def vocab_size(self) -> int:
        """All ids together, V."""
        return self.sentinel + self.n_sentinels


@dataclass(frozen=True)
class CorruptedText:
    """A text in two parts: what is left, and what was cut out."""

    inputs: Int[Tensor, "B S"]
    """The text with a sentinel in the place of each span, padded on the right."""
    input_lengths: Int[Tensor, " B"]
    """Tokens of each row of `inputs` before the padding."""
    targets: Int[Tensor, "B T"]
    """Each span behind its sentinel, and one more sentinel as the end."""
    target_lengths: Int[Tensor, " B"]
    """Tokens of each row of `targets` before the padding."""


def span_counts(length: int, rate: float = 0.15, mean_span: int | float = 3.0) -> tuple[int, int]:
    r"""Return how many tokens of a text are cut out, and in how many spans.

    $n = \mathrm{round}(rL)$ tokens, $\mathrm{round}(n/\mu)$ spans; at least one token is cut out
    and one is kept, and a kept token stands before every span. L is the text's length, r the rate
    and $\mu$ the mean span.

    Raises:
        ValueError: When an argument is out of its range.

    Example:
        >>> span_counts(512)
        (77, 26)

    References:
        Raffel et al. (2020), section 3.1.4, and the released preprocessing, which fixes both
        numbers and draws only the places.
    """
    if length < 2 or not 0 < rate < 1 or not mean_span >= 1:
        raise ValueError(
            f"length={length} must be at least 2, rate={rate} between 0 and 1 and "
            f"mean_span={mean_span} at least 1"
        )
    n_noise = min(max(round(length * rate), 1), length - 1)
    n_spans = max(1, round(n_noise / mean_span))
    return n_noise, min(n_spans, n_noise, length - n_noise)


def random_span_mask(
    n_rows: int,
    length: int,
    *,
    rate: float = 0.15,
    mean_span: int | float = 3.0,
    anywhere: bool = False,
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "B T"]:
    """Draw spans to cut out of texts of one length.

    Every way to cut `span_counts` tokens into that many spans, with kept tokens before each, is
    equally likely. So each text starts with a kept token and ends with a span: T5's rule, under
    which a single span always stands at the end.

    Args:
        anywhere: Let texts start with a span and end with a kept token too, every way alike.

    Raises:
        ValueError: See `span_counts`.

    Example:
        >>> mask = random_span_mask(2, 12, rate=0.4, mean_span=2.5)
        >>> mask.sum(dim=1).tolist(), mask[:, 0].tolist(), mask[:, -1].tolist()
        ([5, 5], [False, False], [True, True])

    References:
        Raffel et al. (2020), section 3.1.4.
    """
    n_noise, n_spans = span_counts(length, rate, mean_span)
    noise = _random_parts(n_rows, n_noise, n_spans, generator)
    if anywhere:  # one part more; the first and the last may be empty
        kept = _random_parts(n_rows, length - n_noise + 2, n_spans + 1, generator)
        kept[:, 0] -= 1
        kept = kept[:, :-1]
    else:
        kept = _random_parts(n_rows, length - n_noise, n_spans, generator)
    lengths = torch.stack((kept, noise), dim=-1).flatten(1)  # [B, 2 n_spans]: kept, cut, kept ...
    ends = lengths.cumsum(dim=1)
    segment = torch.searchsorted(ends, torch.arange(length).repeat(n_rows, 1), right=True)
    return segment % 2 == 1  # behind the last span the number is even


def _random_parts(
    n_rows: int, total: int, n_parts: int, generator: torch.Generator | None
) -> Int[Tensor, "B parts"]:
    """Cut `total` into `n_parts` positive whole numbers, every way equally likely."""
    order = torch.rand(n_rows, total - 1, generator=generator).argsort(dim=1)
    cuts = order[:, : n_parts - 1].sort(dim=1).values + 1
    edges = torch.nn.functional.pad(cuts, (1, 0))
    edges = torch.nn.functional.pad(edges, (0, 1), value=total)
    return edges.diff(dim=1)


def corrupt_spans(
    tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"], special: SpecialTokens
) -> CorruptedText:
    """Cut the marked spans out of each text, a sentinel in the place of each.

    Args:
        mask: True where a token is cut out; neighbors form one span.

    Raises:
        ValueError: When there is no row, one has more spans than there are sentinels but one, or a
            token of the text is itself a special one.

    Example:
        >>> special = SpecialTokens(n_text_tokens=50)
        >>> text = corrupt_spans(
        ...     torch.tensor([[7, 8, 9, 10]]), torch.tensor([[False, True, True, False]]), special
        ... )
        >>> text.inputs.tolist(), text.targets.tolist()
        ([[7, 54, 10]], [[54, 8, 9, 55]])

    References:
        Raffel et al. (2020), section 3.1.4 and figure 2.
    """
    if not tokens.numel() or mask.shape != tokens.shape:
        raise ValueError(
            f"texts of shape {tuple(tokens.shape)} and a mask of {tuple(mask.shape)}: give one "
            "text or more, of one token or more, and a mask of the same shape"
        )
    if bool((tokens >= special.n_text_tokens).any()):
        raise ValueError(
            f"the text holds token {int(tokens.max())}, which is no text token for SpecialTokens: "
            f"make them with n_text_tokens above it, not {special.n_text_tokens}"
        )
    before = torch.nn.functional.pad(mask, (1, 0))[:, :-1]
    starts = mask & ~before
    span = starts.cumsum(dim=1) - 1  # of a cut token: the number of its span
    n_spans, n_noise = starts.sum(dim=1), mask.sum(dim=1)
    if int(n_spans.max()) >= special.n_sentinels:
        raise ValueError(
            f"{int(n_spans.max())} spans and the end need {int(n_spans.max()) + 1} sentinels: "
            f"there are {special.n_sentinels}, so make SpecialTokens with more or cut fewer spans"
        )
    sentinels = special.sentinel + span
    input_lengths = tokens.shape[1] - n_noise + n_spans
    inputs = _gathered(tokens.where(~starts, sentinels), ~mask | starts, special.pad)

    target_lengths = n_noise + n_spans + 1
    targets = tokens.new_full((len(tokens), int(target_lengths.max())), special.pad)
    place = mask.cumsum(dim=1) - 1 + span + 1  # cut tokens before this one, and their sentinels
    row = torch.arange(len(tokens), device=tokens.device)[:, None].expand_as(tokens)
    targets[row[mask], place[mask]] = tokens[mask]
    targets[row[starts], place[starts] - 1] = sentinels[starts]
    targets[row[:, 0], target_lengths - 1] = special.sentinel + n_spans
    return CorruptedText(inputs, input_lengths, targets, target_lengths)


def _gathered(values: Tensor, kept: Tensor, pad: int) -> Int[Tensor, "B S"]:
    """Move each row's kept values to its left, and fill the rest."""
    lengths = kept.sum(dim=1)
    packed = values.new_full((len(values), int(lengths.max())), pad)
    filled = torch.arange(packed.shape[1], device=values.device) < lengths[:, None]
    packed[filled] = values[kept]  # both masks run row by row
    return packed


def restore_spans(
    text: CorruptedText, special: SpecialTokens
) -> tuple[Int[Tensor, "B T"], Int[Tensor, " B"]]:
    """Put the spans back into their places: the inverse of `corrupt_spans`.

    Returns the texts, padded on the right, and their lengths.

    Raises:
        ValueError: When a row's sentinels do not count 0, 1, 2 ... in both parts, with one more in
            the targets, at whose start and end they stand.

    Example:
        >>> special = SpecialTokens(n_text_tokens=50)
        >>> text = CorruptedText(
        ...     torch.tensor([[7, 54, 10]]), torch.tensor([3]),
        ...     torch.tensor([[54, 8, 9, 55]]), torch.tensor([4]),
        ... )
        >>> restore_spans(text, special)[0].tolist()
        [[7, 8, 9, 10]]
    """
    marks_in, span_in = _sentinels(text.inputs, text.input_lengths, special)
    marks_out, span_out = _sentinels(text.targets, text.target_lengths, special)
    last = text.targets.gather(1, text.target_lengths[:, None] - 1)[:, 0]
    n_spans = marks_in.sum(dim=1)
    # Sentinels count up, so the right one at the end means that none is missing.
    if not (bool(marks_out[:, 0].all()) and bool((last == special.sentinel + n_spans).all())):
        raise ValueError(
            "inputs and targets do not belong together: the targets need the inputs' sentinels, "
            "each before its span, and one more at the end"
        )
    in_text = _within(text.targets, text.target_lengths) & ~marks_out
    width = int(marks_out.sum(dim=1).max())
    span_lengths = torch.zeros(len(n_spans), width, dtype=torch.long, device=n_spans.device)
    span_lengths.scatter_add_(1, span_out.clamp_min(0), in_text.long())
    grows = torch.where(marks_in, span_lengths.gather(1, span_in.clamp_min(0)), 1)
    grows = grows * _within(text.inputs, text.input_lengths)
    begins = grows.cumsum(dim=1) - grows  # where each input token, or its span, goes
    lengths = grows.sum(dim=1)

    tokens = text.inputs.new_full((len(lengths), int(lengths.max())), special.pad)
    row = torch.arange(len(lengths), device=tokens.device)[:, None]
    kept = _within(text.inputs, text.input_lengths) & ~marks_in
    tokens[row.expand_as(kept)[kept], begins[kept]] = text.inputs[kept]
    span_begins = torch.zeros_like(span_lengths)
    span_begins[row.expand_as(marks_in)[marks_in], span_in[marks_in]] = begins[marks_in]
    # In the targets span k's tokens follow k + 1 sentinels and the spans before it.
    earlier = span_lengths.cumsum(dim=1) - span_lengths
    place = torch.arange(text.targets.shape[1], device=tokens.device) - (span_out + 1)
    span = span_out.clamp_min(0)
    place = place - earlier.gather(1, span) + span_begins.gather(1, span)
    tokens[row.expand_as(in_text)[in_text], place[in_text]] = text.targets[in_text]
    return tokens, lengths


def _within(tokens: Tensor, lengths: Tensor) -> Bool[Tensor, "B T"]:
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]


def _sentinels(
    tokens: Tensor, lengths: Tensor, special: SpecialTokens
) -> tuple[Bool[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Return where sentinels stand, and for each token how many came before or at it, less one."""
    marks = (tokens >= special.sentinel) & (tokens < special.vocab_size) & _within(tokens, lengths)
    span = marks.cumsum(dim=1) - 1
    if not bool((tokens[marks] == special.sentinel + span[marks]).all()):
        raise ValueError("the sentinels of a row must count 0, 1, 2 ... in order")
    return marks, span
