import statistics

from llmlib.core.statistics import t_factor


def paired_verdict(ours: list[float], baseline: list[float]) -> tuple[float, float, str]:
    """Return the 95% interval of the mean difference within seeds, and what it says."""
    differences = [a - b for a, b in zip(ours, baseline, strict=True)]
    mean, n = statistics.mean(differences), len(differences)
    half = t_factor(n) * statistics.stdev(differences) / n**0.5
    low, high = mean - half, mean + half
    return low, high, "better" if high < 0 else "worse" if low > 0 else "none"
