"""How weights lie in memory, which decides the speed of reading one token at a time.

A token's product `W x` uses each weight once, so its time is the time to read W. With W stored
row by row (output-major, as `nn.Linear` keeps it) each output is a dot product of its own; with
the columns of W one after the other (input-major) the product is a running sum of long vectors,
`x_1 w_1 + x_2 w_2 + ...`, which BLAS libraries read faster, and which splits into one part of the
inputs for each processor core.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


def one_row_product(
    x: Float[Tensor, "*ones Din"], weight: Float[Tensor, "Dout Din"], n_parts: int
) -> Float[Tensor, "1 1 Dout"]:
    r"""Multiply one vector with an input-major matrix, its inputs split between the cores.

    $W x = \sum_p W_p x_p$ over parts p of the inputs.

    Args:
        weight: The matrix, with strides `(1, Dout)`.
        n_parts: How many parts, each on its own core; divides Din.

    Example:
        >>> weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).t().contiguous().t()
        >>> one_row_product(torch.tensor([1.0, 10.0]), weight, 2)
        tensor([[[21., 43.]]])
    """
    d_out, d_in = weight.shape
    part = d_in // n_parts
    columns = weight.as_strided((n_parts, part, d_out), (part * d_out, d_out, 1))
    return torch.bmm(x.view(n_parts, 1, part), columns).sum(dim=0, keepdim=True)


class InputMajorLinear(nn.Linear):
    """A linear layer whose matrix is stored column by column; same parameter, same results.

    Args:
        linear: The layer whose parameters it takes over; their memory is rearranged.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        make_input_major(self.weight)

    @override
    def forward(self, input: Float[Tensor, "*rows Din"]) -> Float[Tensor, "*rows Dout"]:
        weight = self.weight
        if torch.is_grad_enabled() or input.numel() != weight.shape[1] or input.is_cuda:
            return F.linear(input, weight, self.bias)
        n_parts = torch.get_num_threads()
        if weight.shape[1] % n_parts or weight.stride(0) != 1:
            return F.linear(input, weight, self.bias)
        row = one_row_product(input, weight, n_parts)  # [1, 1, Dout]
        if self.bias is not None:
            row = row + self.bias
        return row if input.dim() == 3 else row.view(*input.shape[:-1], -1)


def make_input_major(parameter: Tensor) -> None:
    """Store a matrix column by column; its shape and values stay."""
    parameter.data = parameter.data.t().contiguous().t()


def input_major(model: nn.Module) -> nn.Module:
    """Rearrange all matrices of a model, in place, for decoding one token at a time.

    The tied embedding is the output matrix too and is rearranged with it. Training goes on as
    before, and saving too, at the cost of one copy.

    Example:
        >>> layer = input_major(nn.Sequential(nn.Linear(3, 5)))[0]
        >>> layer.weight.shape, layer.weight.stride()
        (torch.Size([5, 3]), (1, 5))
    """
    for parent in [*model.modules()]:
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                parent.register_module(name, InputMajorLinear(child))
    output = getattr(model, "output_weight", None)
    if isinstance(output, nn.Parameter) and output.stride(0) != 1:
        make_input_major(output)
    return model
