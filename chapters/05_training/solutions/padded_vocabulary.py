import math


def padded_vocabulary(vocab_size, processes, multiple):
    """Round the share of one process up; the padding is at the end."""
    share = multiple * math.ceil(vocab_size / (processes * multiple))
    starts = [rank * share for rank in range(processes)]
    return processes * share, [min(share, max(0, vocab_size - start)) for start in starts]
