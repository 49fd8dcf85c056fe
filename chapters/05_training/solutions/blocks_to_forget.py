import math


def blocks_to_forget(n_blocks: int, kept: int, read: int, room: int) -> int | None:
    """Return the fewest blocks to recompute so that the activations fit into the room."""
    if n_blocks * kept <= room:
        return 0
    # (L - k) A + k X + A <= room, the last A for the block that is being made again
    k = math.ceil(((n_blocks + 1) * kept - room) / (kept - read))
    return k if k <= n_blocks else None
