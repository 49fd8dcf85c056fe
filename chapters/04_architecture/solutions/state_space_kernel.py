import torch


def state_space_kernel(factors, weights, length):
    """What one 1 leaves behind: each state's power, weighted, with its conjugate partner."""
    powers = factors[:, None] ** torch.arange(length)  # [half, length]
    return 2 * (weights @ powers).real
