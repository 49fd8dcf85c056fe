from collections.abc import Callable, Mapping, Sequence


def premiums(
    messages: Mapping[str, Sequence[str]], encode: Callable[[str], Sequence[int]]
) -> dict[str, float]:
    """Return each language's tokens over those of English for the same messages."""
    tokens = {code: sum(len(encode(text)) for text in texts) for code, texts in messages.items()}
    return {code: n / tokens["en"] for code, n in tokens.items()}
