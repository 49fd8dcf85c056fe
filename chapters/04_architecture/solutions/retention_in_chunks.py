import torch


def retention_in_chunks(queries, keys, values, decay, chunk):
    """All pairs inside a chunk, and everything earlier through the state."""
    state = torch.zeros(keys.shape[-1], values.shape[-1])
    outputs = []
    for q, k, v in zip(queries.split(chunk), keys.split(chunk), values.split(chunk), strict=True):
        size = len(q)  # the last chunk may be shorter
        j = torch.arange(size)[:, None]
        fading = (decay ** (j - j.mT).clamp_min(0)).tril()
        inside = (q @ k.mT * fading) @ v
        outputs.append(inside + decay ** (j + 1) * (q @ state))
        state = decay**size * state + (k * decay ** (size - 1 - j)).mT @ v
    return torch.cat(outputs)
