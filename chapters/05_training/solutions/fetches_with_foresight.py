from collections.abc import Sequence


def fetches_with_foresight(uses: Sequence[str], room: int) -> int:
    """Count the fetches when what leaves is what is used again last."""
    here: set[str] = set()
    fetched = 0
    for moment, chunk in enumerate(uses):
        if chunk in here:
            continue
        fetched += 1
        if len(here) == room:
            later = list(uses[moment + 1 :])
            here.remove(max(here, key=lambda c: later.index(c) if c in later else len(later)))
        here.add(chunk)
    return fetched
