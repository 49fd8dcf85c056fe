def kept_tokens(n_read: int, n_sinks: int, window: int) -> tuple[list[int], list[int]]:
    """Return the places in the text of what is held, and the positions it stands at."""
    n_first = min(n_sinks, n_read)
    start = max(n_first, n_read - window)  # the window ends where the sinks do in a short text
    tokens = [*range(n_first), *range(start, n_read)]
    return tokens, list(range(len(tokens)))
