"""How long a corpus would take: arithmetic on paper before anything is rented."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What the work is done on."""

    count: int = 1
    cores: int = 16
    memory_bytes: float = 64e9
    """Memory of the one that looks for duplicates."""
    transfer_bytes_per_second: float = 1e9
    """What each reads and writes, over its network or disk."""
    hashes_per_second: float = 5e6
    """Digests that one core sorts and compares in a second."""


@dataclass(frozen=True)
class CleaningEstimate:
    """Where the time goes."""

    seconds: dict[str, float]
    """Time of each part, one after the other, except that reading overlaps with computing."""
    digest_bytes: float
    """Memory for the digests of all kept documents."""
    fits: bool
    """Whether that is within the memory of one machine."""

    @property
    def bottleneck(self) -> str:
        """The part that takes longest."""
        return max(self.seconds, key=lambda part: self.seconds[part])

    @property
    def total_seconds(self) -> float:
        """The whole, if transfer and computing overlap and the search for duplicates does not."""
        overlapped = max(self.seconds["steps"], self.seconds["transfer"])
        return overlapped + self.seconds["duplicates"]


def estimate_cleaning(
    corpus_bytes: float,
    *,
    bytes_per_second_and_core: float,
    machines: Machines,
    kept: float = 0.5,
    document_bytes: float = 3000.0,
) -> CleaningEstimate:
    r"""Estimate the time to clean a corpus with `clean_shards`.

    Assumed: files are many and of equal size, so that all cores are busy; the first pass reads the
    corpus and writes what is kept, the second reads and writes that once more; the steps cost the
    same per byte on every core, which hyper-threads and shared memory make optimistic; digests are
    sorted by one core in $n \log_2 n$ comparisons, of which the rate is given at $n = 10^6$.

    `kept` is the share of bytes that passes the steps, the documents' length a mean.

    Example:
        >>> one = Machines(count=1, cores=16)
        >>> terabyte = estimate_cleaning(1e12, bytes_per_second_and_core=2e6, machines=one)
        >>> {part: round(seconds / 3600, 2) for part, seconds in terabyte.seconds.items()}
        {'steps': 8.68, 'transfer': 0.69, 'duplicates': 0.01}
        >>> terabyte.bottleneck, round(terabyte.digest_bytes / 1e9, 1)
        ('steps', 2.8)
    """
    if min(corpus_bytes, bytes_per_second_and_core, document_bytes) <= 0 or not 0 <= kept <= 1:
        raise ValueError("sizes and speeds must be positive, kept a share from 0 to 1")
    documents = kept * corpus_bytes / document_bytes
    workers = machines.count * machines.cores
    moved = corpus_bytes * (1 + 3 * kept)
    sorting = documents * max(1.0, math.log2(max(documents, 2)) / math.log2(1e6))
    seconds = {
        "steps": corpus_bytes / (bytes_per_second_and_core * workers),
        "transfer": moved / (machines.transfer_bytes_per_second * machines.count),
        "duplicates": sorting / machines.hashes_per_second,
    }
    digest_bytes = 17 * documents
    return CleaningEstimate(seconds, digest_bytes, digest_bytes <= machines.memory_bytes)
