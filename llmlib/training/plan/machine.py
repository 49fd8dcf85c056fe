"""Machines as a planner sees them: rates, sizes, and what of them a real run reaches."""

from collections import Counter
from dataclasses import dataclass

from llmlib.scaling.flops import PEAK_FLOPS


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Many equal GPUs in nodes. Rates are the makers'; three shares say what a run reaches.

    Example:
        >>> SELENE.ring_bandwidth([0, 1, 2, 3]) > SELENE.ring_bandwidth([0, 8, 16, 24])
        True
    """

    name: str
    peak_flops: float
    """FLOP/s of a GPU, dense 16-bit products."""
    memory_bytes: float
    """Of a GPU."""
    within_node: float
    """Bytes a second that a GPU sends to others of its node."""
    between_nodes: float
    """Bytes a second that a node sends to other nodes, all its GPUs together."""
    gpus_per_node: int = 8
    kernel_share: float = 0.55
    """Share of the peak that a GPU reaches while it computes, passes over memory included. Set by
    one line of Narayanan et al. (2021), table 1, the 7.5-billion one; all others are predictions.
    """
    network_share: float = 0.8
    """Share of the network's rate that large transfers reach. An assumption: protocols and
    switches cost a tenth to a quarter."""
    reserved_bytes: float = 4 * 2**30
    """Memory that no tensor of the model gets: the driver's, the network library's buffers and what
    lies between blocks. An assumption; 2 to 6 GB are common."""
    price_per_hour: float = 2.0
    """USD for one GPU. An assumption; rents of 2024 lie between 1 and 4."""

    def ring_bandwidth(self, ranks: list[int]) -> float:
        """Return the bytes a second between neighbours of a ring of ranks, others like it running.

        Where a ring leaves its nodes, the node's links are shared by all rings that do: as many as
        there are GPUs in a node for each member that the ring has in it.
        """
        nodes = Counter(rank // self.gpus_per_node for rank in ranks)
        if len(nodes) == 1:
            return self.network_share * self.within_node
        together = max(nodes.values())
        shared = self.between_nodes * together / self.gpus_per_node
        return self.network_share * min(self.within_node, shared)


# NVIDIA A100 data sheet: 80 GB, NVLink 600 GB/s, half of it each way. Eight 200 Gb/s links a node:
# Narayanan et al. (2021), section 5.
SELENE = Machine(
    name="A100, eight 200 Gb/s links a node",
    peak_flops=PEAK_FLOPS["A100 bf16"],
    memory_bytes=80e9,
    within_node=300e9,
    between_nodes=8 * 25e9,
)
# Le Scao et al. (2022), BLOOM, section 3.5: four Omni-Path links of 100 Gb/s a node.
JEAN_ZAY = Machine(
    name="A100, four 100 Gb/s links a node",
    peak_flops=PEAK_FLOPS["A100 bf16"],
    memory_bytes=80e9,
    within_node=300e9,
    between_nodes=4 * 12.5e9,
)
# NVIDIA H100 SXM data sheet: 80 GB, NVLink 900 GB/s, half of it each way; DGX H100: eight 400 Gb/s
# links. Faster products wait longer for everything else: 0.45, an assumption near the 38% to 43%
# of Dubey et al. (2024), table 4, which hold their bubbles and sends too.
DGX_H100 = Machine(
    name="H100, eight 400 Gb/s links a node",
    peak_flops=PEAK_FLOPS["H100 SXM bf16"],
    memory_bytes=80e9,
    within_node=450e9,
    between_nodes=8 * 50e9,
    kernel_share=0.45,
    price_per_hour=3.0,
)
