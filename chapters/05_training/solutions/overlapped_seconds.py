def overlapped_seconds(
    layers: list[tuple[float, int]], bucket_bytes: int, latency: float, bandwidth: float
) -> float:
    """Return when a backward pass ends whose full buckets travel one after the other meanwhile."""
    computed, free, filled = 0.0, 0.0, 0
    for place, (seconds, size) in enumerate(layers):
        computed += seconds
        filled += size
        at_the_end = place == len(layers) - 1
        if filled >= bucket_bytes or (at_the_end and filled):
            free = max(computed, free) + latency + filled / bandwidth
            filled = 0
    return max(computed, free)
