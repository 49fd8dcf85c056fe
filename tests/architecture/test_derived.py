"""Nothing derived outlives its source, and no backward pass writes into what is not its own."""

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from llmlib.architecture import Transformer
from llmlib.architecture.attention.blocked import blocked_causal_attention
from llmlib.architecture.attention.flash import flash_attention
from llmlib.architecture.experts.grouped_linear import grouped_linear
from llmlib.architecture.experts.mixture_of_experts import combine, group_by_expert, spread
from llmlib.architecture.experts.routing import route
from llmlib.architecture.kernels.fused import rms_norm, rotate, swiglu
from llmlib.architecture.kernels.input_major import input_major
from llmlib.architecture.positions.rope import rope_angles, rope_frequencies
from llmlib.architecture.recurrent.scan import linear_scan
from llmlib.architecture.recurrent.selective import selective_scan
from llmlib.training.formats.blocks import MXFP8
from llmlib.training.formats.linear import LowPrecisionLinear, ProductRecipe
from llmlib.training.memory.chunked_loss import linear_cross_entropy
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.context_parallel import ring_attention
from llmlib.training.parallel.pipelines.stages import DeferredLinear
from llmlib.training.parallel.tensors.squares import linear_2d
from llmlib.training.parallel.tensors.vocabulary import split_cross_entropy
from llmlib.training.parallel.transposed import transposed
from llmlib.training.stability.embedding_gradient import shrink_gradient
from llmlib.utilization import GREEDY, generate
from tests.architecture.designs import DESIGNS, VOCAB, decoder

IDS = torch.arange(40).view(2, 20) * 11 % VOCAB
each = pytest.mark.parametrize("design", DESIGNS)


def by_data(model: Transformer, factor: float) -> None:
    for parameter in model.parameters():
        parameter.data.mul_(factor)


def by_new_storage(model: Transformer, factor: float) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data * factor


@torch.no_grad()
def in_place(model: Transformer, factor: float) -> None:
    for parameter in model.parameters():
        parameter.mul_(factor)


@torch.inference_mode()
def in_inference_mode(model: Transformer, factor: float) -> None:
    for parameter in model.parameters():
        parameter.mul_(factor)


def by_loading(model: Transformer, factor: float) -> None:
    model.load_state_dict({name: x * factor for name, x in model.state_dict().items()})


def by_assigning(model: Transformer, factor: float) -> None:
    model.load_state_dict({n: x * factor for n, x in model.state_dict().items()}, assign=True)


def by_an_optimizer(model: Transformer, factor: float) -> None:
    for parameter in model.parameters():
        parameter.grad = parameter.detach() * (1 - factor)
    torch.optim.SGD(model.parameters(), lr=1.0).step()


def by_numpy(model: Transformer, factor: float) -> None:
    for parameter in model.parameters():
        parameter.detach().numpy()[...] *= factor


CHANGES = [
    by_data, by_new_storage, in_place, in_inference_mode, by_loading, by_assigning,
    by_an_optimizer, by_numpy,
]  # fmt: skip
# Hyena keeps filters, and so meets every change; for the others three stand for all.
MET = [
    (design, change) for design in DESIGNS for change in CHANGES[:: 1 if design == "hyena" else 3]
]


@pytest.mark.parametrize(("design", "change"), MET)
def test_changed_parameters_are_heeded(design, change):
    model = decoder(DESIGNS[design])
    for _ in range(2):  # the second change meets whatever the first one left
        with torch.inference_mode():
            before = model(IDS)
        change(model, 0.75)
        fresh = Transformer(model.config).eval()
        fresh.load_state_dict(model.state_dict())
        with torch.inference_mode():
            torch.testing.assert_close(model(IDS), fresh(IDS), atol=1e-5, rtol=1e-4)
            assert (model(IDS) - before).abs().amax() > 1e-3


@each
def test_training_goes_on_after_inference(design):
    model = decoder(DESIGNS[design])
    fresh = copy.deepcopy(model)
    generate(model, IDS.tolist(), max_new_tokens=3, sampling=GREEDY)
    for one in (model, fresh):
        one.train()(IDS).logsumexp(-1).sum().backward()
    for ours, theirs in zip(model.parameters(), fresh.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_matrices_read_by_columns_follow_a_change():
    model = decoder({})
    plain = copy.deepcopy(model)
    input_major(model)
    for one in (model, plain):
        in_place(one, 0.75)
        by_assigning(one, 0.5)
        by_data(one, 1.5)
    with torch.inference_mode():
        for ids in (IDS, IDS[:1, :1]):
            torch.testing.assert_close(model(ids), plain(ids), atol=1e-5, rtol=1e-4)


def test_filters_move_with_their_parameters():
    model = decoder(DESIGNS["hyena"])
    with torch.no_grad():
        before = model(IDS)
        torch.testing.assert_close(model.double()(IDS), before.double(), atol=1e-3, rtol=1e-3)


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


ROUTING = route(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), 2)
GROUPING = group_by_expert(ROUTING)
ANGLES = rope_angles(torch.arange(5)[None], rope_frequencies(6))
HEADS = (2, 2, 5, 6)
ALONE = object.__new__(Communicator)  # a group of one process, which has nothing to send
ALONE.rank, ALONE.size, ALONE.sent, ALONE.events = 0, 1, Counter(), []
FEW_BITS = LowPrecisionLinear(
    nn.Linear(4, 5, bias=False), ProductRecipe(operands=MXFP8, gradients=MXFP8)
)
FUNCTIONS: dict[str, tuple[list[tuple[int, ...]], Callable[..., Any]]] = {
    "linear scan": ([(2, 5, 3), (2, 5, 3), (2, 3)], lambda a, b, h: linear_scan(a.sigmoid(), b, h)),
    # One number of state, or one channel: transposed, the last state's gradient lies as it is.
    "selective scan, one number": (
        [(2, 5, 3), (2, 5, 3), (3, 1), (2, 5, 1), (2, 5, 1), (2, 3, 1)],
        lambda x, s, a, b, c, h: selective_scan(x, s.exp(), -a.exp(), b, c, h),
    ),
    "selective scan, one channel": (
        [(2, 5, 1), (2, 5, 1), (1, 4), (2, 5, 4), (2, 5, 4), (2, 1, 4)],
        lambda x, s, a, b, c, h: selective_scan(x, s.exp(), -a.exp(), b, c, h),
    ),
    "selective scan": (
        [(2, 5, 3), (2, 5, 3), (3, 4), (2, 5, 4), (2, 5, 4), (2, 3, 4)],
        lambda x, s, a, b, c, h: selective_scan(x, s.exp(), -a.exp(), b, c, h),
    ),
    "RMS norm": ([(2, 5, 6), (6,)], lambda x, w: rms_norm(x, w, 1e-5)),
    "SwiGLU": ([(2, 5, 6)], swiglu),
    "rotation": ([(1, 5, 2, 6)], lambda x: rotate(x, *ANGLES)),
    "blocks of queries": ([HEADS] * 3, lambda q, k, v: blocked_causal_attention(q, k, v, 2)),
    "tiles": (
        [HEADS] * 3,
        lambda q, k, v: flash_attention(q, k, v, causal=True, block_queries=2, block_keys=3),
    ),
    "grouped products": (
        [(6, 4), (3, 5, 4)], lambda x, w: grouped_linear(x, w, torch.tensor([1, 0, 5])),
    ),
    "spread": ([(6, 4)], lambda x: spread(x, GROUPING)),
    "combine": ([(12, 4), (6, 2)], lambda y, g: combine(y, g, GROUPING)),
    "cross-entropy": (
        [(6, 4), (7, 4)], lambda x, w: linear_cross_entropy(x, w, torch.arange(6), 4),
    ),
    "smaller gradient": ([(2, 5, 6)], lambda x: shrink_gradient(x, 0.1)),
    "products of few bits": (
        [(6, 4), (5, 4)], lambda x, w: functional_call(FEW_BITS, {"weight": w}, (x,)),
    ),
    "a map and its transpose": (
        [(2, 5, 6)], lambda x: transposed(x, lambda x: 3 * x, lambda grad: 3 * grad),
    ),
    "ring": (
        [HEADS] * 3, lambda q, k, v: ring_attention(q, k, v, [torch.arange(5)], ALONE),
    ),
    "squares": ([(6, 4), (4, 5)], lambda x, w: linear_2d(x, w, ALONE, ALONE)),
    "split cross-entropy": (
        [(6, 4), (7, 4)], lambda x, w: split_cross_entropy(x, w, torch.arange(6), 7, ALONE),
    ),
    "weights put off": ([(6, 4)], DeferredLinear(nn.Linear(4, 5), list)),
}  # fmt: skip
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": torch.randn_like,
    "transposed": lambda y: torch.randn(y.T.shape).T if y.dim() == 2 else torch.randn_like(y),
    "last axes swapped": lambda y: torch.randn(y.mT.shape).mT if y.dim() > 1 else torch.ones(()),
    "expanded": lambda y: torch.randn(()).expand(y.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_backward_pass_writes_into_nothing_of_the_caller(name, layout):
    shapes, function = FUNCTIONS[name]
    inputs = drawn(*shapes)
    result = function(*inputs)
    outputs = list(result) if isinstance(result, tuple) else [result]
    gradients = [LAYOUTS[layout](y) for y in outputs]
    before = [x.detach().clone() for x in (*inputs, *outputs, *gradients)]
    first = torch.autograd.grad(outputs, inputs, gradients, retain_graph=True)
    kept = [x.clone() for x in first]
    second = torch.autograd.grad(outputs, inputs, gradients)
    for now, then in zip((*inputs, *outputs, *gradients), before, strict=True):
        assert torch.equal(now, then)
    for again, once, copied in zip(second, first, kept, strict=True):
        assert torch.equal(again, copied) and torch.equal(once, copied)


def test_every_function_with_a_gradient_of_its_own_is_asked():
    """A new one belongs into the list above."""
    import llmlib.architecture.transformer  # noqa: F401

    classes = torch.autograd.Function.__subclasses__()
    ours = {c.__name__ for c in classes if c.__module__.startswith("llmlib.")}
    assert ours == {
        "_LinearScan", "_SelectiveScan", "_RMSNorm", "_SwiGLU", "_Rotate", "_BlockedAttention",
        "_FlashAttention", "_GroupedLinear", "_Spread", "_Combine", "_LinearCrossEntropy",
        "_Shrink", "_Products", "_Transposed", "_RingAttention", "_Summa", "_SplitCrossEntropy",
        "_DeferredLinear",
    }  # fmt: skip
