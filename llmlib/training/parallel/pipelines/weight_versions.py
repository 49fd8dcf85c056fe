"""Several versions of the same weights: a pipeline that never waits needs more than the newest."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.optim import Optimizer

from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.training.objectives.next_token import next_token_loss

MakeStageOptimizer = Callable[[list[nn.Parameter]], Optimizer]


class WeightVersions:
    """A stage's newest weights, which an optimizer changes, and the older ones that are looked at.

    The optimizer has copies of its own. A model's parameter is a window: it shows the version that
    a pass needs. An optimizer that stepped on the parameters themselves would change the memory
    that graphs of micro-batches under way have saved; autograd refuses these ("modified by an
    inplace operation").

    Args:
        parameters: Of the stage.
        make_optimizer: Called with the copies.
        stashing: Whether each update leaves the older versions as they are. Without it, the
            memory under the saved graphs is overwritten, behind autograd's back.

    References:
        Narayanan et al. (2019), PipeDream: Generalized Pipeline Parallelism for DNN Training,
        section 3.3.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        make_optimizer: MakeStageOptimizer,
        *,
        stashing: bool = True,
    ) -> None:
        self.parameters, self.stashing = list(parameters), stashing
        self._newest = [nn.Parameter(p.detach().clone()) for p in self.parameters]
        self.optimizer = make_optimizer(self._newest)
        self.n_updates = 0

    def shown(self) -> list[Tensor]:
        """Return the version that the parameters show, for `show`; nothing is copied."""
        return [p.data for p in self.parameters]

    def show(self, version: list[Tensor]) -> None:
        """Let the parameters show a version."""
        for parameter, tensor in zip(self.parameters, version, strict=True):
            parameter.data = tensor

    def update(self) -> None:
        """Step with the parameters' gradients, and show the new version."""
        for copy, parameter in zip(self._newest, self.parameters, strict=True):
            copy.grad, parameter.grad = parameter.grad, None
        self.optimizer.step()
        self.n_updates += 1
        for copy, parameter in zip(self._newest, self.parameters, strict=True):
            if self.stashing:
                parameter.data = copy.detach().clone()
            else:
                parameter.data.copy_(copy.detach())


def stage_parameters(model: Transformer, stages: int) -> list[list[nn.Parameter]]:
    """Return each stage's parameters when a decoder's layers are cut into equal runs.

    Raises:
        ValueError: When they cannot be, or embedding and output matrix are one.

    Example:
        >>> from llmlib.architecture.config import ModelConfig
        >>> config = ModelConfig(
        ...     vocab_size=11, d_model=8, n_layers=2, n_heads=2, max_seq_len=4, tie_embeddings=False
        ... )
        >>> [len(stage) for stage in stage_parameters(Transformer(config), 2)]
        [7, 8]
    """
    require_untied(model)
    if len(model.blocks) % stages:
        raise ValueError(f"{len(model.blocks)} layers are not {stages} runs of equal length")
    each = len(model.blocks) // stages
    found: list[list[nn.Parameter]] = [[] for _ in range(stages)]
    for name, parameter in model.named_parameters():
        if name.startswith("blocks."):
            found[int(name.split(".")[1]) // each].append(parameter)
        else:
            found[-1 if name.startswith(("norm.", "head.")) else 0].append(parameter)
    return found


def require_untied(model: Transformer) -> None:
    """Refuse a model whose first and last stage share a matrix.

    Raises:
        ValueError: When embedding and output matrix are one: the two stages would update it at
            different times, from different versions.
    """
    if model.head is None:
        raise ValueError("updates of single stages would untie them: take tie_embeddings=False")


def train_with_delays(
    model: Transformer,
    micro_batches: Iterable[Batch],
    stages: int,
    make_optimizer: MakeStageOptimizer,
    *,
    stashing: bool = True,
) -> list[float]:
    r"""Train on one process with the updates as an asynchronous pipeline of P stages delays them.

    The gradient of micro-batch m is taken where stage s has its weights after $m - (P - 1 - s)$
    updates, at least none, and each stage applies it as its update m + 1:
    $w_s^{(m+1)} = w_s^{(m)} - \eta \nabla_s L_m(w_0^{(m-P+1)}, \dots, w_{P-1}^{(m)})$.

    Args:
        model: Changed in place; in the end its weights are the newest.
        stages: With one, nothing is delayed.
        stashing: See `WeightVersions`. Without it, the backward pass meets the newest weights.

    Returns:
        Each micro-batch's loss, in nats a token.

    References:
        Narayanan et al. (2019), section 3.3.
    """
    versions = [
        WeightVersions(parameters, make_optimizer) for parameters in stage_parameters(model, stages)
    ]
    kept = [[stage.shown()] for stage in versions]
    losses: list[float] = []
    for batch in micro_batches:
        for stage, old in zip(versions, kept, strict=True):
            # Written over where nothing is stashed, so a copy.
            stage.show(old[0] if stashing else [tensor.clone() for tensor in old[0]])
        loss = next_token_loss(model, batch)
        if not stashing:
            for stage, old in zip(versions, kept, strict=True):
                for parameter, tensor in zip(stage.parameters, old[-1], strict=True):
                    parameter.data.copy_(tensor)
        loss.backward()
        losses.append(loss.item())
        for s, (stage, old) in enumerate(zip(versions, kept, strict=True)):
            stage.update()
            old.append(stage.shown())
            if len(old) > stages - s:
                del old[0]
    for stage, old in zip(versions, kept, strict=True):
        stage.show(old[-1])
    return losses
