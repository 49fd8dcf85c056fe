def check_digit(body: str) -> int:
    """Return the digit that makes a card number of its body, by Luhn's rule."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = 2 * int(digit) if place % 2 == 0 else int(digit)
        total += value - 9 if value > 9 else value
    return -total % 10
