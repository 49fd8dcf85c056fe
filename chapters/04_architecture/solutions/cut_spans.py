def cut_spans(
    tokens: list[int], cut: list[bool], first_sentinel: int
) -> tuple[list[int], list[int]]:
    """Replace each cut span by a sentinel; return the text with holes, and what was in them."""
    inputs, targets, n_spans = [], [], 0
    before = False
    for token, is_cut in zip(tokens, cut, strict=True):
        if is_cut and not before:  # a span begins
            inputs.append(first_sentinel + n_spans)
            targets.append(first_sentinel + n_spans)
            n_spans += 1
        (targets if is_cut else inputs).append(token)
        before = is_cut
    return inputs, [*targets, first_sentinel + n_spans]
