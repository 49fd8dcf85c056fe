def least_block(
    peak: float, bandwidth: float, heads: int, kv_heads: int, bytes_per_number: int
) -> float:
    """Return the tokens a process from which a round computes for as long as it sends."""
    # 4 c^2 heads width / peak >= 2 c kv_heads width bytes / bandwidth, solved for c
    return 2 * kv_heads * bytes_per_number * peak / (4 * heads * bandwidth)
