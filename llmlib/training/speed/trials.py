"""Each operation of a training step on its own, forward and backward, to be counted and timed."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture.attention.blocked import causal_attention
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import parameters
from llmlib.architecture.feedforward import activate
from llmlib.architecture.kernels.fused import rotate
from llmlib.architecture.norms import make_norm
from llmlib.architecture.positions.rope import rope_angles
from llmlib.training.speed.intensity import step_operations

Trial = Callable[[], object]


def operation_trials(config: ModelConfig, batch_size: int, seq_len: int) -> dict[str, Trial]:
    """Return, by the names of `step_operations`, one occurrence of each as a function to call.

    The tensors are random and made once, in float32 on the processor; they take a few times the
    memory of the largest operation until the dictionary is forgotten.

    Raises:
        ValueError: When the configuration is another than that of a dense decoder with full
            attention, feed-forward layers, and positions by rotation or none.

    Example:
        >>> config = ModelConfig(vocab_size=11, d_model=16, n_layers=2, n_heads=2, max_seq_len=8)
        >>> [gradient.shape for gradient in operation_trials(config, 1, 5)["feedforward_down"]()]
        [torch.Size([1, 5, 64]), torch.Size([16, 64])]
    """
    names = step_operations(config, batch_size, seq_len)
    width, size = config.d_model, config.head_dim
    queries, shared = config.n_heads * size, config.n_kv_heads * size
    tokens = torch.randint(config.vocab_size, (batch_size, seq_len))

    def numbers(*shape: int) -> Tensor:
        return torch.randn(batch_size, seq_len, *shape)

    def product(inputs: int, outputs: int) -> Trial:
        return _differentiated(F.linear, numbers(inputs), torch.randn(outputs, inputs))

    up = (2 if config.is_gated else 1) * config.d_ff
    norm = make_norm(config)
    makers: dict[str, Callable[[], Trial]] = {
        "embedding": lambda: _differentiated(
            lambda table: F.embedding(tokens, table), torch.randn(config.vocab_size, width)
        ),
        "norm": lambda: _differentiated(lambda x, *_: norm(x), numbers(width), *norm.parameters()),
        "qkv": lambda: product(width, queries + 2 * shared),
        "rotation": lambda: _rotation(numbers(config.n_heads + config.n_kv_heads, size)),
        "attention": lambda: _differentiated(
            lambda q, k, v: causal_attention(*(x.transpose(1, 2) for x in (q, k, v))),
            numbers(config.n_heads, size),
            numbers(config.n_kv_heads, size),
            numbers(config.n_kv_heads, size),
        ),
        "attention_out": lambda: product(queries, width),
        "feedforward_up": lambda: product(width, up),
        "activation": lambda: _differentiated(
            lambda x: activate(x, config.activation), numbers(up)
        ),
        "feedforward_down": lambda: product(config.d_ff, width),
        "residual": lambda: _residual(numbers(width), numbers(width)),
        "head": lambda: product(width, config.vocab_size),
        "cross_entropy": lambda: _differentiated(
            lambda logits: F.cross_entropy(logits.flatten(0, 1), tokens.flatten()),
            numbers(config.vocab_size),
        ),
        "clip": lambda: _clip(parameters(config).total),
        "adamw": lambda: _adamw(parameters(config).total),
    }
    return {name: makers[name]() for name in names}


def _differentiated(function: Callable[..., Tensor], *inputs: Tensor) -> Trial:
    """Return a function that computes a result, and the gradients of all inputs from its own."""
    leaves = [x.requires_grad_() for x in inputs]
    grad = torch.ones_like(function(*leaves))
    return lambda: torch.autograd.grad(function(*leaves), leaves, grad)


def _rotation(heads: Tensor) -> Trial:
    positions = torch.arange(heads.shape[1]).unsqueeze(0)
    half = heads.shape[-1] // 2
    angles = rope_angles(positions, 1.0 / (1 + torch.arange(half, dtype=torch.float32)))
    return _differentiated(lambda x: rotate(x, *angles), heads)


def _residual(stream: Tensor, added: Tensor) -> Trial:
    """Return the sum, and on the way back the sum of the two gradients that reach the stream."""
    return lambda: (stream + added, stream + added)


def _with_gradient(count: int) -> nn.Parameter:
    parameter = nn.Parameter(torch.randn(count))
    parameter.grad = torch.randn(count)
    return parameter


def _clip(count: int) -> Trial:
    parameter = _with_gradient(count)
    return lambda: nn.utils.clip_grad_norm_([parameter], 1.0)


def _adamw(count: int) -> Trial:
    optimizer = torch.optim.AdamW([_with_gradient(count)], fused=True)
    optimizer.step()  # the first one makes the moments
    return optimizer.step


def fastest(trial: Trial, repeats: int = 5) -> float:
    """Return the processor seconds of the fastest of some calls, after one that warms up.

    With one thread that is the time of a core, without the moments at which other programs had it.
    What is left of a neighbour's influence slows a call down: the fastest is nearest to what the
    operation takes.

    Raises:
        ValueError: If there is nothing to repeat.

    Example:
        >>> fastest(lambda: sum(range(1000))) > 0
        True
    """
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be at least 1")
    trial()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        trial()
        times.append(time.process_time() - start)
    return min(times)
