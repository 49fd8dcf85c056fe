"""A word for who misspelt a name."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """End an error message with the known name that is nearest to a wrong one, if any is near.

    Example:
        >>> did_you_mean("attenton", ["attention", "rope"]), did_you_mean("x", ["rope"])
        ("; did you mean 'attention'?", '')
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
