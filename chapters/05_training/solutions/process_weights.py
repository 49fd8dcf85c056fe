def process_weights(counts):
    """Return what each process multiplies its means by, before gradients are averaged."""
    total = sum(sum(own) for own in counts)
    return [[len(counts) * n / total for n in own] for own in counts]
