"""Data, pipeline and tensor parallelism at once, on a mesh of processes."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.data_parallel import target_shares
from llmlib.training.parallel.pipelines.orders import PipelineKind
from llmlib.training.parallel.pipelines.stages import PipelineParallel
from llmlib.training.parallel.ring import sum_together
from llmlib.training.parallel.tensors.tensor_parallel import Places, TensorParallel


class ComposedParallel:
    r"""Trains a decoder on a mesh with the axes `data`, `pipeline` and `tensor`.

    Every matrix is split over the tensor axis, what is left of the layers is cut into the stages
    of a pipeline, and the gradients of what a process then holds, about $1 / (P_t P_p)$ of the
    model, are added up over the data axis. Of a micro-batch a stage sends $BTD$ numbers to its
    neighbour; of the gradients a process sends $2\tfrac{P_d-1}{P_d}$ of those that it holds.

    Args:
        model: Whole, the same on every process: made from the same seed, whatever the layout.
        comms: `Mesh.communicators()`.
        kind: Not `zero_bubble`, which puts the gradients of whole matrices off.
        places: See `TensorParallel`.

    Raises:
        ValueError: When an axis is missing or too many, or the model does not fit.

    Example:
        >>> from llmlib.training.parallel.mesh import Mesh
        >>> mesh = Mesh({"data": 2, "pipeline": 2, "tensor": 2})
        >>> [mesh.group(axis, 5) for axis in mesh.axes]  # whom the sixth of eight talks with
        [[1, 5], [5, 7], [4, 5]]

    References:
        Narayanan et al. (2021), Efficient Large-Scale Language Model Training on GPU Clusters Using
        Megatron-LM, section 3; Le Scao et al. (2022), BLOOM, section 3.4.
    """

    def __init__(
        self,
        model: Transformer,
        comms: Mapping[str, Communicator],
        kind: PipelineKind = "1f1b",
        chunks: int = 1,
        places: Places = "copied",
    ) -> None:
        if comms.keys() != {"data", "pipeline", "tensor"}:
            raise ValueError(f"axes {sorted(comms)}: give the mesh data, pipeline and tensor")
        if kind == "zero_bubble":
            raise ValueError("zero_bubble puts off the gradients of whole matrices: take '1f1b'")
        self.data = comms["data"]
        self.tensor = TensorParallel(model, comms["tensor"], places)
        self.pipeline = _SplitPipeline(self.tensor, comms["pipeline"], kind, chunks)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what this process holds, by its names in the whole model."""
        return self.pipeline.parameters()

    def whole(self, name: str, part: Tensor) -> Tensor:
        """Put a parameter of this stage, or its gradient, together over the tensor axis."""
        return self.tensor.whole(name, part)

    def backward(self, micro_batches: list[Batch]) -> Float[Tensor, ""]:
        """Compute the gradients of the mean loss over all replicas' targets; return that loss.

        Args:
            micro_batches: Of this place on the data axis, the same on the other two.

        Raises:
            ValueError: When no target of any process counts, or tokens are to be split and cannot.
        """
        for batch in micro_batches:
            self.tensor.require_shares(batch)
        shares = target_shares(self.data, micro_batches)
        loss = self.pipeline.backward(micro_batches, shares).reshape(1)
        self.tensor.sum_partial()
        gradients = [p.grad for p in self.parameters().values() if p.grad is not None]
        sum_together(self.data, gradients)
        sum_together(self.data, [loss])
        return loss[0]


class _SplitPipeline(PipelineParallel):
    """A pipeline whose stages are groups of processes that have a part of every matrix."""

    def __init__(
        self, tensor: TensorParallel, comm: Communicator, kind: PipelineKind, chunks: int
    ) -> None:
        super().__init__(tensor.model, comm, kind, chunks)
        self.tensor = tensor

    @override
    def _stream_shape(self, batch: Batch) -> tuple[int, ...]:
        rows, length, width = super()._stream_shape(batch)
        return rows, length // (self.tensor.comm.size if self._is_split else 1), width

    @override
    def _loss(self, hidden: Float[Tensor, "B S D"], batch: Batch) -> Float[Tensor, ""]:
        return self.tensor.loss_of(hidden, batch["targets"])

    @property
    def _is_split(self) -> bool:
        return self.tensor.places == "split"
