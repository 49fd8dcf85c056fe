"""PagedAttention: keys and values in blocks that are handed out as a text grows."""

import weakref
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.caches.base import BoundedCache, require_rows
from llmlib.architecture.caches.block_pool import BlockPool, OutOfBlocksError
from llmlib.architecture.config import ModelConfig

Tables = list[list[int]]


class PagedCache(BoundedCache):
    """A cache whose rows own no memory but lists of blocks: the decoder runs on it unchanged.

    A row's token s is in block `tables[row][s // block_size]` of the pool. Rows of one prefix list
    the same blocks; a row that writes into a shared block gets a copy of it first. Blocks go back
    to the pool when the text is cut, by `free`, and when the cache is no longer referenced.

    On a GPU one kernel reads the blocks where they lie. Here they are gathered for PyTorch's
    attention: the memory held is that of the method, its speed is not.

    Args:
        max_len: Most tokens of a row.
        left_padding: Number of padding tokens at the start of each row. Blocks of padding alone
            take no memory.

    Example:
        >>> config = ModelConfig(vocab_size=7, d_model=8, n_layers=3, n_heads=2, max_seq_len=64)
        >>> cache = PagedCache(BlockPool(config, n_blocks=9, block_size=4), 1, max_len=64)
        >>> new = torch.zeros(1, 2, 5, 4)
        >>> keys, values = cache.extend(0, new, new)
        >>> cache.advance(5)
        >>> cache.tables, cache.nbytes
        ([[0, 1]], 1536)

    References:
        Kwon et al. (2023), sections 4.1 to 4.4.
    """

    def __init__(
        self,
        pool: BlockPool,
        batch_size: int,
        max_len: int,
        *,
        left_padding: Int[Tensor, " B"] | None = None,
    ) -> None:
        require_rows(batch_size, max_len, left_padding)
        self.pool = pool
        self.max_len = max_len
        self.left_padding = left_padding
        self.tables: Tables = [[] for _ in range(batch_size)]
        self._blocks: Int[Tensor, "B n"] | None = None  # the tables as a tensor, when up to date
        self._writable_to = 0  # tokens for which every row has a place of its own
        self._release = weakref.finalize(self, _release_all, pool, self.tables)
        self._release.atexit = False

    @classmethod
    def allocate(
        cls,
        config: ModelConfig,
        batch_size: int,
        max_len: int,
        *,
        left_padding: Int[Tensor, " B"] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        block_size: int = 16,
        n_blocks: int = 0,
    ) -> "PagedCache":
        """Set aside a pool and an empty cache on it, as `KVCache.allocate` does.

        Args:
            block_size: Tokens of a block.
            n_blocks: Number of blocks. Default: enough for `batch_size` rows of `max_len`.
        """
        n_blocks = n_blocks or batch_size * -(-max_len // max(1, block_size))
        pool = BlockPool(config, max(1, n_blocks), block_size, device=device, dtype=dtype)
        cache = cls(pool, batch_size, max_len, left_padding=left_padding)
        cache.rotated = not config.rotates_late
        return cache

    @property
    @override
    def nbytes(self) -> int:
        """Bytes of the blocks that the rows hold, shared ones once."""
        return len(self._held()) * self.pool.block_bytes

    @property
    def n_slots(self) -> int:
        """Room for tokens in the blocks that the rows hold, shared ones once."""
        return len(self._held()) * self.pool.block_size

    @property
    def n_tokens(self) -> int:
        """Tokens of all rows, without padding; those that rows share count for each."""
        padding = 0 if self.left_padding is None else int(self.left_padding.sum())
        return self.length * len(self.tables) - padding

    def _held(self) -> set[int]:
        held = {block for table in self.tables for block in table}
        return held - {self.pool.padding_block}

    @override
    def extend(
        self, layer: int, keys: Float[Tensor, "B G T K"], values: Float[Tensor, "B G T Kv"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S Kv"]]:
        """Write the new keys and values into the rows' blocks, and gather all of the layer.

        Raises:
            ValueError: When a row would be longer than `max_len`, or the cache was freed.
            OutOfBlocksError: When the pool has too few blocks; nothing is changed then.
        """
        end = self._end(keys.shape[2])
        if not self._release.alive:
            raise ValueError("the cache was freed: make a new one on its pool")
        if self._writable_to != end:
            self._reserve(end)
        blocks = self._block_tensor(keys.device)
        size = self.pool.block_size
        slots = torch.arange(self.length, end, device=keys.device)
        numbers, places = blocks[:, slots // size], (slots % size).expand(len(blocks), -1)
        is_text = numbers != self.pool.padding_block  # [B, T]
        results = []
        for memory, new in ((self.pool.keys[layer], keys), (self.pool.values[layer], values)):
            memory[numbers[is_text], places[is_text]] = new.transpose(1, 2)[is_text].to(
                memory.dtype
            )
            whole = memory[blocks].flatten(1, 2)[:, :end]  # [B, S, G, K]
            results.append(whole.transpose(1, 2))
        return results[0], results[1]

    def _reserve(self, end: int) -> None:
        """Give every row blocks of its own for the tokens from `length` to `end`."""
        pool, allocator = self.pool, self.pool.allocator
        size, first = pool.block_size, self.length // pool.block_size
        shared: list[tuple[int, int]] = []
        missing = 0
        seen: dict[int, int] = {}  # how many of this cache's rows keep a block, so far
        for row, table in enumerate(self.tables):
            for place in range(first, len(table)):
                block = table[place]
                if block == pool.padding_block:
                    continue
                seen[block] = seen.get(block, 0) + 1
                # Of the rows that hold a block the last one, alone with it by then, may keep it.
                if allocator.uses(block) > seen[block]:
                    shared.append((row, place))
            missing += sum(not self._is_padding(row, n) for n in self._new_places(row, end))
        needed = missing + len(shared)
        if needed > allocator.n_free:
            raise OutOfBlocksError(
                f"{needed} more blocks of {size} tokens are needed and {allocator.n_free} of "
                f"{allocator.n_blocks} are free: free a sequence or allocate more blocks"
            )
        for row, place in shared:
            copy = allocator.take()
            pool.copy(self.tables[row][place], copy)
            allocator.release(self.tables[row][place])
            self.tables[row][place] = copy
        for row, table in enumerate(self.tables):
            for place in self._new_places(row, end):
                is_padding = self._is_padding(row, place)
                table.append(pool.padding_block if is_padding else allocator.take())
        self._writable_to = end
        self._blocks = None

    def _new_places(self, row: int, end: int) -> range:
        return range(len(self.tables[row]), -(-end // self.pool.block_size))

    def _is_padding(self, row: int, place: int) -> bool:
        """Whether a row's block number `place` holds padding alone."""
        if self.left_padding is None:
            return False
        return (place + 1) * self.pool.block_size <= int(self.left_padding[row])

    def _block_tensor(self, device: torch.device) -> Int[Tensor, "B n"]:
        if self._blocks is None:
            self._blocks = torch.tensor(self.tables, device=device)
        return self._blocks

    @override
    def truncate(self, length: int) -> None:
        """Forget as every cache does, and give back the blocks that held those tokens alone."""
        super().truncate(length)
        kept = -(-length // self.pool.block_size)
        for table in self.tables:
            _release_blocks(self.pool, table[kept:])
            del table[kept:]
        self._writable_to = length
        self._blocks = None

    @override
    def select(self, rows: Int[Tensor, " rows"]) -> "PagedCache":
        """Return the rows on the same blocks: each copies a shared block when it first writes."""
        padding = None if self.left_padding is None else self.left_padding[rows]
        chosen: Sequence[int] = rows.tolist()
        cache = PagedCache(self.pool, len(chosen), self.max_len, left_padding=padding)
        for table, row in zip(cache.tables, chosen, strict=True):
            table.extend(self.tables[row])
            for block in table:
                if block != self.pool.padding_block:
                    self.pool.allocator.share(block)
        cache.length = cache._writable_to = self.length
        cache.rotated = self.rotated
        return cache  # it copies what it writes; this one may go on writing where it alone did

    def fork(self) -> "PagedCache":
        """Return a second cache of the same rows, which shares their blocks until one writes."""
        return self.select(torch.arange(len(self.tables)))

    def free(self) -> None:
        """Give all blocks back now; the cache cannot be used any more."""
        self._release()
        self.length = 0


def _release_blocks(pool: BlockPool, blocks: Sequence[int]) -> None:
    for block in blocks:
        if block != pool.padding_block:
            pool.allocator.release(block)


def _release_all(pool: BlockPool, tables: Tables) -> None:
    for table in tables:
        _release_blocks(pool, table)
        table.clear()


def contiguous_slots(lengths: Sequence[int], max_len: int) -> int:
    """Return the tokens that rows of one tensor have room for: each as many as it may need.

    Example:
        >>> contiguous_slots([3, 5], max_len=16)
        32
    """
    return len(lengths) * max_len


def paged_slots(lengths: Sequence[int], block_size: int) -> int:
    """Return the tokens that sequences in blocks have room for: less than a block each is wasted.

    Example:
        >>> paged_slots([3, 5], block_size=4)
        12

    References:
        Kwon et al. (2023), section 3.1 and figure 2.
    """
    return sum(-(-length // block_size) * block_size for length in lengths)
