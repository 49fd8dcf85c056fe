from collections.abc import Collection, Sequence


def seen_text(events: Sequence[tuple[str, str]], hidden: Collection[str]) -> str:
    """Join the pieces of text that lie in no hidden element."""
    open_hidden = 0
    parts: list[str] = []
    for kind, value in events:
        if kind == "start":
            open_hidden += value in hidden
        elif kind == "end":
            open_hidden -= value in hidden
        elif not open_hidden:
            parts.append(value)
    return "".join(parts)
