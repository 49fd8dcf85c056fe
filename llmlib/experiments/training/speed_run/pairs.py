"""What counting gives: a table of pairs of tokens, a yardstick for the race."""

import numpy as np

from llmlib.data.stream.packing import TokenSource

STRENGTH = 20.0
"""Times that every context is taken to have been seen before, followed by tokens as common as
anywhere; not tuned."""


def pairs_loss(learnt: TokenSource, measured: TokenSource, vocab_size: int) -> float:
    r"""Return the loss in nats a token of pairs counted in one text on another.

    $p(y \mid x) = (n_{xy} + s\,q_y) / (n_x + s)$ with the tokens' frequencies q, where every token
    counts once more than it is there.

    Example:
        >>> from llmlib.data.stream.packing import pack
        >>> text = pack([[1, 2] * 40], 0)
        >>> round(pairs_loss(text, pack([[1, 2, 1]], 0), 3), 2)
        1.74
    """
    tokens, asked = (
        source.read(0, source.n_tokens).astype(np.int64) for source in (learnt, measured)
    )
    shares = np.bincount(tokens, minlength=vocab_size) + 1.0
    shares /= shares.sum()
    contexts = np.bincount(tokens[:-1], minlength=vocab_size)
    pairs, counts = np.unique(tokens[:-1] * vocab_size + tokens[1:], return_counts=True)
    wanted = asked[:-1] * vocab_size + asked[1:]
    places = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
    seen = np.where(pairs[places] == wanted, counts[places], 0)
    chances = (seen + STRENGTH * shares[asked[1:]]) / (contexts[asked[:-1]] + STRENGTH)
    return float(-np.log(chances).mean())
