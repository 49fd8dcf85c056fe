"""Language modeling and prefix language modeling: from texts to what a model reads and must say."""

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from llmlib.core.batch import IGNORE, Batch
from llmlib.training.objectives.masked_spans import SpecialTokens


def language_modeling(tokens: Int[Tensor, "B T1"]) -> Batch:
    r"""Predict every token from those before it.

    $L = -\sum_t \log p(x_t \mid x_{<t})$

    Example:
        >>> batch = language_modeling(torch.tensor([[3, 1, 4, 1]]))
        >>> batch["inputs"].tolist(), batch["targets"].tolist()
        ([[3, 1, 4]], [[1, 4, 1]])

    References:
        Zhao et al. (2023), A Survey of Large Language Models, section 4.2.3, equation 4.
    """
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}


def prefix_language_modeling(
    tokens: Int[Tensor, "B T1"],
    *,
    prefix_lengths: Int[Tensor, " B"] | None = None,
    generator: torch.Generator | None = None,
) -> Batch:
    r"""Predict the end of each text from its beginning, which is given as a whole.

    $L = -\sum_{t \ge P} \log p(x_t \mid x_{<t})$, where the first P tokens may see each other. No
    target counts whose token is in the prefix.

    Args:
        tokens: Token ids of the texts, one more than the model reads.
        prefix_lengths: Tokens of each prefix, from 1 to one less than the text has. Default:
            drawn from these, each length equally likely.

    Raises:
        ValueError: When a prefix leaves nothing to predict, or nothing to start from, or there is
            not one a text.

    Example:
        >>> batch = prefix_language_modeling(
        ...     torch.tensor([[3, 1, 4, 1]]), prefix_lengths=torch.tensor([2])
        ... )
        >>> batch["inputs"].tolist(), batch["targets"].tolist()
        ([[3, 1, 4]], [[-100, 4, 1]])

    References:
        Raffel et al. (2020), Exploring the Limits of Transfer Learning, sections 3.2.1 and 3.3.1;
        Dong et al. (2019), Unified Language Model Pre-training.
    """
    n_rows, length = tokens.shape
    if length < 2 or n_rows < 1:
        raise ValueError(f"{n_rows} texts of {length} tokens: give one text or more, of two tokens "
                         "or more")  # fmt: skip
    if prefix_lengths is None:
        prefix_lengths = torch.randint(1, length, (n_rows,), generator=generator).to(tokens.device)
    if len(prefix_lengths) != n_rows:
        raise ValueError(f"{len(prefix_lengths)} prefix_lengths for {n_rows} texts: give one each")
    if int(prefix_lengths.min()) < 1 or int(prefix_lengths.max()) >= length:
        raise ValueError(f"prefix_lengths must lie between 1 and {length - 1}, one token less "
                         "than the texts have")  # fmt: skip
    batch = language_modeling(tokens)
    places = torch.arange(length - 1, device=tokens.device)
    in_prefix = places + 1 < prefix_lengths[:, None]  # the target at t is token t + 1
    targets = batch["targets"].masked_fill(in_prefix, IGNORE)
    return {"inputs": batch["inputs"], "targets": targets, "prefix_lengths": prefix_lengths}


def split_prefix(tokens: Int[Tensor, "B T1"], special: SpecialTokens, prefix_length: int) -> Batch:
    """Give the beginning of each text to the encoder, and let the decoder predict the rest.

    The encoder gets 1 token at least and leaves 1; the decoder starts with the padding.

    Raises:
        ValueError: When one half would be empty.

    Example:
        >>> batch = split_prefix(torch.tensor([[3, 1, 4, 1]]), SpecialTokens(n_text_tokens=5), 2)
        >>> [batch[name].tolist() for name in ("encoder_inputs", "decoder_inputs", "targets")]
        [[[3, 1]], [[5, 4]], [[4, 1]]]
    """
    n_rows, length = tokens.shape
    if not 1 <= prefix_length < length:
        raise ValueError(f"prefix_length={prefix_length} must lie between 1 and {length - 1}")
    prefix, targets = tokens[:, :prefix_length], tokens[:, prefix_length:]
    lengths = torch.full((n_rows,), prefix_length, device=tokens.device)
    decoder_inputs = F.pad(targets[:, :-1], (1, 0), value=special.pad)
    return {
        "encoder_inputs": prefix,
        "encoder_lengths": lengths,
        "decoder_inputs": decoder_inputs,
        "targets": targets,
    }
