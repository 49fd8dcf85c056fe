def chain_bytes(
    chain: list[tuple[tuple[str, ...], str]], numbers: dict[str, int], results: set[str]
) -> tuple[int, int]:
    """Return the bytes that a chain of float32 operations moves, one by one and fused."""
    apart = sum(numbers[name] for inputs, out in chain for name in {*inputs, out})
    made = {out for _, out in chain}
    read = {name for inputs, _ in chain for name in inputs} - made
    fused = sum(numbers[name] for name in read) + sum(numbers[name] for name in made & set(results))
    return 4 * apart, 4 * fused
