def digit_groups(digits: str, size: int) -> list[str]:
    """Cut a string of digits into groups from the right, in reading order."""
    groups = []
    end = len(digits)
    while end > 0:
        groups.append(digits[max(0, end - size) : end])
        end -= size
    return groups[::-1]
