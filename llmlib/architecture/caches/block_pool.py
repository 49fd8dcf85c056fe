"""The memory behind a paged cache: blocks, who holds them, and which are free."""

import torch
from torch import Tensor

from llmlib.architecture.config import ModelConfig


class OutOfBlocksError(RuntimeError):
    """No free block is left: free a sequence, wait for one to end, or make the pool larger."""


class BlockAllocator:
    """Which blocks of a pool are in use, and by how many sequences each.

    Example:
        >>> allocator = BlockAllocator(2)
        >>> block = allocator.take()
        >>> allocator.share(block)
        >>> allocator.release(block)
        >>> allocator.n_free, allocator.uses(block)
        (1, 1)

    References:
        Kwon et al. (2023), Efficient Memory Management for LLM Serving with PagedAttention,
        sections 4.2 and 4.4.
    """

    def __init__(self, n_blocks: int) -> None:
        if n_blocks < 1:
            raise ValueError(f"n_blocks={n_blocks} must be above zero")
        self._uses = [0] * n_blocks
        self._free = list(range(n_blocks - 1, -1, -1))  # the lowest is handed out first

    @property
    def n_blocks(self) -> int:
        """Number of blocks, free or not."""
        return len(self._uses)

    @property
    def n_free(self) -> int:
        """Number of blocks that can be handed out."""
        return len(self._free)

    def uses(self, block: int) -> int:
        """Return how many sequences hold a block; 0 for a free one."""
        return self._uses[block]

    def take(self) -> int:
        """Hand out a free block, its use count 1.

        Raises:
            OutOfBlocksError: When there is none.
        """
        if not self._free:
            raise OutOfBlocksError(
                f"all {self.n_blocks} blocks are in use: free a sequence or allocate more blocks"
            )
        block = self._free.pop()
        self._uses[block] = 1
        return block

    def share(self, block: int) -> None:
        """Count one more sequence that holds a block."""
        assert self._uses[block], f"block {block} is free"
        self._uses[block] += 1

    def release(self, block: int) -> None:
        """Count one sequence less; the last one frees the block."""
        assert self._uses[block], f"block {block} was released twice"
        self._uses[block] -= 1
        if not self._uses[block]:
            self._free.append(block)


class BlockPool:
    """The memory of many sequences' keys and values, one set of blocks for all of them.

    Block b holds `block_size` tokens of one sequence in every layer. One more block, never handed
    out, stands for padding: it stays zero.

    Args:
        block_size: Tokens of a block.
    """

    def __init__(
        self,
        config: ModelConfig,
        n_blocks: int,
        block_size: int = 16,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if block_size < 1:
            raise ValueError(f"block_size={block_size} must be above zero")
        self.allocator = BlockAllocator(n_blocks)
        self.block_size = block_size
        self.padding_block = n_blocks

        def room(heads: int, width: int) -> list[Tensor]:
            shape = (n_blocks + 1, block_size, heads, width)
            return [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layers)]

        keys, values = config.cache_shapes
        self.keys, self.values = room(*keys), room(*values)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block in all layers."""
        return sum(tensor[0].nbytes for tensor in (*self.keys, *self.values))

    @property
    def nbytes(self) -> int:
        """Bytes set aside, whether in use or not."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def copy(self, source: int, target: int) -> None:
        """Copy a block in all layers."""
        for tensor in (*self.keys, *self.values):
            tensor[target] = tensor[source]
