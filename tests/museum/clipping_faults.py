"""Faults of clipping: what is clipped, and when."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from llmlib.training.stability.clipping import NormClipping
from museum.exhibit import Exhibit

# An update's gradient out of the gradients of micro-batches, which are to be added up.

Updated = Callable[[Sequence[Tensor]], Tensor]


def _clipped_in_the_loop(gradients: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(gradients[0])
    for gradient in gradients:
        total += gradient
        total *= (1 / total.norm()).clamp_max(1)
    return total


def _clipped_by_the_library(gradients: Sequence[Tensor]) -> Tensor:
    parameter = nn.Parameter(torch.zeros_like(gradients[0]))
    parameter.grad = torch.stack(list(gradients)).sum(dim=0)
    NormClipping(1.0)([parameter])
    return parameter.grad


def _plausible_to_the_norm(updated: Updated) -> None:
    large, small = torch.tensor([3.0, 4.0]), torch.tensor([0.1, 0.2])
    torch.testing.assert_close(updated([large]).norm(), torch.tensor(1.0))
    torch.testing.assert_close(updated([large, large]).norm(), torch.tensor(1.0))
    assert torch.equal(updated([small, small]), 2 * small)


def _same_in_any_order(updated: Updated) -> None:
    gradients = [torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])]
    torch.testing.assert_close(updated(gradients), updated(gradients[::-1]))


# The gradient that all processes end with, out of each one's own.

Averaged = Callable[[Sequence[Tensor]], Tensor]


def _clip_then_average(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack([_clipped_by_the_library([own]) for own in gradients]).mean(dim=0)


def _average_then_clip(gradients: Sequence[Tensor]) -> Tensor:
    return _clipped_by_the_library([torch.stack(list(gradients)).mean(dim=0)])


def _plausible_for_equal_processes(averaged: Averaged) -> None:
    one = torch.tensor([3.0, 4.0])
    torch.testing.assert_close(averaged([one]), one / 5)
    torch.testing.assert_close(averaged([one, one, one]), one / 5)
    assert averaged([one, -one, 2 * one]).norm() <= 1 + 1e-6


def _a_small_average_is_not_clipped(averaged: Averaged) -> None:
    gradients = [torch.tensor([3.0, 4.0]), torch.tensor([-3.0, -3.5])]
    torch.testing.assert_close(averaged(gradients), torch.tensor([0.0, 0.25]))


CLIPPING_FAULTS = [
    Exhibit(
        name="Clipped once a micro-batch",
        threads=(
            "huggingface/transformers#1563",
            "huggingface/transformers#986",
            "facebookresearch/lingua#59",
        ),
        fault="The gradient is clipped after every backward pass of an update, not once before "
        "the update: a later micro-batch is added to what was already cut down.",
        looks="The update's norm is never above the limit, and the loss falls. The last "
        "micro-batch weighs more than the first, and another order gives another update.",
        faulty=_clipped_in_the_loop,
        sound=_clipped_by_the_library,
        plausible=_plausible_to_the_norm,
        check=_same_in_any_order,
    ),
    Exhibit(
        name="Clipped before the processes average",
        threads=("mindspore-lab/mindcv#603",),
        fault="Each process clips the gradient of its own rows, and the clipped ones are averaged.",
        looks="Right where all processes' gradients are alike. Where they differ, which is what "
        "more rows are for, an average that is small is cut down all the same, and turned.",
        faulty=_clip_then_average,
        sound=_average_then_clip,
        plausible=_plausible_for_equal_processes,
        check=_a_small_average_is_not_clipped,
    ),
]
