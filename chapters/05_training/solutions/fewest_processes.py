import math


def fewest_processes(parameters: int, memory: int, stage: int) -> int | None:
    """Return the least number of processes on which a model in two bytes fits, or None."""
    kept = (16, 4, 2, 0)[stage] * parameters
    shared = 16 * parameters - kept
    if kept + shared <= memory:
        return 1
    if kept >= memory or shared == 0:
        return None
    return math.ceil(shared / (memory - kept))
