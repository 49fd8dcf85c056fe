"""Each process's own pieces of a model and its optimizer, to torch.distributed.checkpoint."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_loader import load as load_state
from torch.distributed.checkpoint.state_dict_saver import save as save_state
from torch.distributed.tensor import DTensor
from typing_extensions import override

from llmlib.training.checkpointing.named_state import (
    AnyOptimizer,
    load_optimizer_tensors,
    named_states,
    require_fit,
    unique_tensors,
)
from llmlib.training.distributed import own_part, world_size
from llmlib.training.engine.split_products import row_orders

PIECES_INDEX = ".metadata"
"""The file by which a folder of pieces is known; the library writes it last."""


class Pieces:
    """The blocks of a whole tensor that lie in this process's part of it.

    A distributed tensor knows where its part begins. Where rows lie in another order than in the
    whole model, the part is several runs of the whole one's rows, and each run is a block.

    Args:
        local: This process's part.
        order: The whole model's row at each place of the distributed tensor.
    """

    def __init__(self, tensor: DTensor, local: Tensor, order: Tensor | None) -> None:
        self.whole_size = tensor.shape
        self.properties = TensorProperties.create_from_tensor(local)
        self.blocks: dict[torch.Size, Tensor] = {}
        if not local.numel():
            return
        (chunk,) = tensor.__create_chunk_list__()
        first, *others = chunk.offsets
        rows = torch.arange(first, first + len(local))
        if order is not None:
            rows = order[rows]
        for begin, end in _runs(rows):
            self.blocks[torch.Size([int(rows[begin]), *others])] = local[begin:end]

    def size(self) -> torch.Size:
        """Return the whole tensor's shape."""
        return self.whole_size

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [ChunkStorageMetadata(at, block.shape) for at, block in self.blocks.items()]

    def __create_write_items__(self, name: str, _: object) -> list[WriteItem]:
        return [
            WriteItem(
                MetadataIndex(name, chunk.offsets),
                WriteItemType.SHARD,
                tensor_data=TensorWriteData(chunk, self.properties, self.whole_size),
            )
            for chunk in self.__create_chunk_list__()
        ]


class _Writing(DefaultSavePlanner):
    @override
    def lookup_object(self, index: MetadataIndex) -> Any:
        found = self.state_dict[index.fqn]
        return _block(found, index) if isinstance(found, Pieces) else super().lookup_object(index)


class _Reading(DefaultLoadPlanner):
    @override
    def set_up_planner(
        self,
        state_dict: dict[str, Any],
        metadata: Metadata | None = None,
        is_coordinator: bool = False,
    ) -> None:
        # The default would replace what is no tensor; ours is flat and has its memory already.
        self.original_state_dict = self.state_dict = state_dict
        self.metadata, self.is_coordinator = metadata, is_coordinator

    @override
    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        found = self.state_dict[index.fqn]
        return _block(found, index) if isinstance(found, Pieces) else super().lookup_tensor(index)


def own_pieces(model: nn.Module, optimizer: AnyOptimizer) -> dict[str, Any]:
    """Return copies, in the processor's memory, of what this process holds, under files' names."""
    orders = row_orders(model)
    held = {
        f"model.{name}": (tensor, orders.get(name))
        for name, tensor in unique_tensors(model).items()
    }
    for name, state in named_states(model, optimizer).items():
        for key, value in state.items():
            held[f"optimizer.{name}.{key}"] = (value, orders.get(name))
    copies: dict[str, Any] = {}
    for name, (tensor, order) in held.items():
        copy = own_part(tensor).to("cpu", copy=True)
        copies[name] = Pieces(tensor, copy, order) if isinstance(tensor, DTensor) else copy
    return copies


def write_pieces(folder: Path, pieces: dict[str, Any], group: ProcessGroup | None) -> None:
    """Write all processes' pieces into a folder; what several hold is written once."""
    with _unwarned() if world_size() == 1 else nullcontext():
        save_state(pieces, checkpoint_id=folder, planner=_Writing(), process_group=group)


def read_pieces(folder: Path, model: nn.Module, optimizer: AnyOptimizer | None = None) -> None:
    """Fill a model, and its optimizer if given, in whatever layout they are.

    Raises:
        ValueError: When names or shapes are not the model's.
    """
    saved = {
        name: entry
        for name, entry in FileSystemReader(folder).read_metadata().state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    own, orders = unique_tensors(model), row_orders(model)
    require_fit(own, {name: entry.size for name, entry in _under(saved, "model.").items()})
    wanted = {f"model.{name}": tensor.detach() for name, tensor in own.items()}
    states = {} if optimizer is None else _empty_states(model, _under(saved, "optimizer."))
    wanted |= {f"optimizer.{name}": tensor for name, tensor in states.items()}
    placed: dict[str, Any] = {}
    for name, tensor in wanted.items():
        kind, _, rest = name.partition(".")
        order = orders.get(rest if kind == "model" else rest.rpartition(".")[0])
        is_spread = isinstance(tensor, DTensor)
        placed[name] = Pieces(tensor, own_part(tensor), order) if is_spread else tensor
    with _unwarned():  # each reads what it needs, without a word to the others
        load_state(
            placed, checkpoint_id=folder, no_dist=True, planner=_Reading(flatten_state_dict=False)
        )
    if optimizer is not None:
        load_optimizer_tensors(model, optimizer, states)


def _empty_states(model: nn.Module, saved: dict[str, TensorStorageMetadata]) -> dict[str, Tensor]:
    """Return room for an optimizer's state, spread as the parameters are; counters are plain."""
    parameters = dict(model.named_parameters())
    found: dict[str, Tensor] = {}
    for name, entry in saved.items():
        parameter, dtype = parameters.get(name.rpartition(".")[0]), entry.properties.dtype
        if parameter is not None and parameter.shape == entry.size:
            found[name] = torch.zeros_like(parameter.detach(), dtype=dtype)
        else:
            found[name] = torch.zeros(entry.size, dtype=dtype)
    return found


def _under(
    saved: dict[str, TensorStorageMetadata], prefix: str
) -> dict[str, TensorStorageMetadata]:
    return {n.removeprefix(prefix): entry for n, entry in saved.items() if n.startswith(prefix)}


def _block(found: Pieces, index: MetadataIndex) -> Tensor:
    assert index.offset is not None
    return found.blocks[index.offset]


def _runs(rows: Tensor) -> Iterator[tuple[int, int]]:
    """Yield where runs of rows that follow each other begin and end."""
    breaks = (rows.diff() != 1).nonzero().flatten() + 1
    places = [0, *breaks.tolist(), len(rows)]
    yield from zip(places, places[1:], strict=False)


@contextmanager
def _unwarned() -> Iterator[None]:
    """The library warns a process that works alone; that is known here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is", UserWarning)
        yield
