def matched_width(d_model: int, multiple: int) -> int:
    """Return 8 D / 3 rounded up to a multiple, in whole numbers throughout."""
    return -(-8 * d_model // (3 * multiple)) * multiple
