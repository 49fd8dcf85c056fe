import math


def fewest_gpus(n_parameters: float, stage: int, memory: float, activations: float) -> int | None:
    """Return the fewest data-parallel GPUs that a stage of ZeRO fits on; None where none do."""
    bytes_a_parameter = {"parameters": 2, "gradients": 4, "optimizer": 12}
    shared_from = {"parameters": 3, "gradients": 2, "optimizer": 1}
    whole = shared = 0.0
    for part, size in bytes_a_parameter.items():
        if stage >= shared_from[part]:
            shared += size * n_parameters
        else:
            whole += size * n_parameters
    room = memory - activations - whole  # for the own part of what is shared
    if shared == 0:
        return 1 if room >= 0 else None
    return max(1, math.ceil(shared / room)) if room > 0 else None
