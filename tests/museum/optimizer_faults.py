"""Faults of what an optimizer is given: decay where none belongs, a shared matrix counted twice."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.training.optimizers.adamw import param_groups
from museum.exhibit import Exhibit

# Which parameters are decayed. Each implementation returns an optimizer's groups.

Grouped = Callable[[nn.Module, float], list[dict[str, Any]]]


def _all_but_layer_norm(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    spared = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, nn.LayerNorm) or name == "bias"
    }
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for parameter in model.parameters():
        groups[id(parameter) in spared]["params"].append(parameter)
    return groups


def _keeps_vectors_without_gradient(grouped: Grouped, **changes: Any) -> None:
    """A step whose gradients are zero is decay alone: it moves matrices and no vector."""
    torch.manual_seed(5)
    sizes: dict[str, Any] = dict(vocab_size=29, d_model=24, n_layers=2, n_heads=3, max_seq_len=13)
    model = Transformer(ModelConfig(**sizes, **changes))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.AdamW(grouped(model, 0.5), lr=0.1).step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (parameter.ndim < 2), name


def _plausible_for_layer_norms(grouped: Grouped) -> None:
    _keeps_vectors_without_gradient(grouped, norm="layer", bias=True)


def _spares_every_norm(grouped: Grouped) -> None:
    _keeps_vectors_without_gradient(grouped, norm="rms")


# Whose gradients are measured and whose weights are stepped. Each implementation lists parameters.

Listed = Callable[[nn.Module], list[Tensor]]


class _Tied(nn.Module):
    """A table of 29 tokens that is the output matrix too, where `tied` says so."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.embedding = nn.Embedding(29, 7)
        self.hidden = nn.Linear(7, 7)
        self.head = nn.Linear(7, 29, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.hidden(self.embedding(tokens)).relu())


def _by_all_its_names(model: nn.Module) -> list[Tensor]:
    return [parameter for _, parameter in model.named_parameters(remove_duplicate=False)]


def _of_its_groups(model: nn.Module) -> list[Tensor]:
    return [parameter for group in param_groups(model, 0.0) for parameter in group["params"]]


def _with_gradients(*, tied: bool) -> _Tied:
    model = _Tied(tied=tied)
    tokens = torch.arange(29).view(1, 29)
    nn.functional.cross_entropy(model(tokens)[0, :-1], tokens[0, 1:]).backward()
    return model


def _one_step_of_descent(listed: Listed, *, tied: bool) -> None:
    model = _with_gradients(tied=tied)
    expected = {name: p.detach() - 0.1 * p.grad for name, p in model.named_parameters()}  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of it since 2020, and goes on
        torch.optim.SGD(listed(model), lr=0.1).step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])


def _steps_without_tying(listed: Listed) -> None:
    _one_step_of_descent(listed, tied=False)


def _steps_a_shared_matrix_once(listed: Listed) -> None:
    _one_step_of_descent(listed, tied=True)


def _length(listed: Listed, *, tied: bool) -> None:
    model = _with_gradients(tied=tied)
    found = torch.nn.utils.get_total_norm([p.grad for p in listed(model) if p.grad is not None])
    every_number = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(found, every_number.norm())


def _measures_without_tying(listed: Listed) -> None:
    _length(listed, tied=False)


def _measures_a_shared_gradient_once(listed: Listed) -> None:
    _length(listed, tied=True)


OPTIMIZER_FAULTS = [
    Exhibit(
        name="Weight decay on norms of another class",
        threads=(
            "huggingface/transformers#35927",
            "deepspeedai/DeepSpeedExamples#755",
            "bigscience-workshop/Megatron-DeepSpeed#262",
        ),
        fault="Norms are spared weight decay by the class they are known by, or the name. A model "
        "with another norm, RMSNorm for one, has its norms decayed.",
        looks="Right for every model with that class. For the others the loss falls as it should "
        "while the norms' scales are pulled towards zero through the whole run.",
        faulty=_all_but_layer_norm,
        sound=param_groups,
        plausible=_plausible_for_layer_norms,
        check=_spares_every_norm,
    ),
    Exhibit(
        name="A tied matrix stepped twice",
        threads=("pytorch/pytorch#40967", "facebookresearch/mmf#965"),
        fault="The optimizer gets its parameters by name, and the matrix that is embedding and "
        "output at once has two names: each step updates it twice.",
        looks="Right without tying. With it the run trains, the largest matrix at twice the rate; "
        "there is a warning among the first lines.",
        faulty=_by_all_its_names,
        sound=_of_its_groups,
        plausible=_steps_without_tying,
        check=_steps_a_shared_matrix_once,
    ),
    Exhibit(
        name="A tied matrix counted twice in the gradient's norm",
        threads=("NVIDIA/Megatron-LM#7227", "NVIDIA/Megatron-LM#7228"),
        fault="The global norm of the gradient sums over both copies of the embedding, of which "
        "one is the output matrix.",
        looks="A norm a little too large, up to the root of two, and no line of the log says so; "
        "clipping sets in too early.",
        faulty=_by_all_its_names,
        sound=_of_its_groups,
        plausible=_measures_without_tying,
        check=_measures_a_shared_gradient_once,
    ),
]
