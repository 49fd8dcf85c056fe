def place_to_write(
    table: list[int], uses: list[int], length: int, block_size: int
) -> tuple[list[int], list[int], int | None]:
    """Return the new table, the new use counts, and the block to copy from, or None."""
    table, uses = list(table), list(uses)
    place = length // block_size
    if place == len(table):  # the row needs one block more
        table.append(uses.index(0))
        uses[table[-1]] = 1
        return table, uses, None
    shared = table[place]
    if uses[shared] == 1:  # nobody else reads it: write in place
        return table, uses, None
    table[place] = uses.index(0)
    uses[table[place]] = 1
    uses[shared] -= 1
    return table, uses, shared
