"""Predicting the last word of a passage, which only its beginning gives away."""

from collections.abc import Sequence

import numpy as np

from llmlib.architecture.transformer import Transformer
from llmlib.utilization.generation import generate
from llmlib.utilization.sampling import GREEDY
from llmlib.utilization.text import TextTokenizer


def split_last_word(passage: str) -> tuple[str, str]:
    """Cut a passage before the space of its last word, as tokenizers cut it.

    Raises:
        ValueError: If there is no space before a last word.

    Example:
        >>> split_last_word("She opened the door")
        ('She opened the', ' door')
    """
    context, space, word = passage.rpartition(" ")
    if not space or not word:
        raise ValueError(f"a passage must end in a space and a word, without space: {passage!r}")
    return context, space + word


def last_word_correct(
    model: Transformer,
    tokenizer: TextTokenizer,
    passages: Sequence[str],
    *,
    start_token: int | None = None,
    batch_size: int = 16,
) -> np.ndarray:
    """Tell for each passage whether greedy decoding continues it with its last word.

    The word counts as a whole, all its tokens in a row, so that the accuracy (the mean of the
    result) can be compared between tokenizers; the accuracy of single tokens could not.

    Args:
        start_token: What stood before each document in training, if anything.

    Raises:
        ValueError: If a passage has no last word or is too long, or batch_size is below 1.

    References:
        Paperno et al. (2016), "The LAMBADA dataset", section 3: passages whose last word people
        guess from the whole passage and not from its last sentence.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    start = [] if start_token is None else [start_token]
    pairs = [split_last_word(passage) for passage in passages]
    correct = np.zeros(len(pairs), dtype=bool)
    for begin in range(0, len(pairs), batch_size):
        batch = pairs[begin : begin + batch_size]
        prompts = [[*start, *tokenizer.encode(context)] for context, _ in batch]
        words = [list(tokenizer.encode(word)) for _, word in batch]
        longest = max(len(word) for word in words)
        guesses = generate(model, prompts, max_new_tokens=longest, sampling=GREEDY)
        correct[begin : begin + len(batch)] = [
            guess[: len(word)] == word for guess, word in zip(guesses, words, strict=True)
        ]
    return correct
