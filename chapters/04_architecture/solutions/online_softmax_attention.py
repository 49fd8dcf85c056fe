import torch
from torch import Tensor


def online_softmax_attention(queries: Tensor, keys: Tensor, values: Tensor, block: int) -> Tensor:
    """Attend with [T, K] queries to [S, K] keys, a block of keys at a time, without a mask."""
    largest = torch.full((len(queries), 1), -torch.inf)  # the largest score so far
    total = torch.zeros(len(queries), 1)  # the sum of exp(score - largest)
    mixed = torch.zeros(len(queries), values.shape[-1])  # the same sum, weighted with the values
    for start in range(0, len(keys), block):
        some = slice(start, start + block)
        scores = queries @ keys[some].mT / queries.shape[-1] ** 0.5  # [T, block]
        new_largest = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
        exponentials = torch.exp(scores - new_largest)
        shrink = torch.exp(largest - new_largest)  # old sums, measured with the new maximum
        total = total * shrink + exponentials.sum(dim=-1, keepdim=True)
        mixed = mixed * shrink + exponentials @ values[some]
        largest = new_largest
    return mixed / total
