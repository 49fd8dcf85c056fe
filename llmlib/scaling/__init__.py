"""Scaling laws, budgets and FLOP arithmetic on plain numbers."""

from llmlib.scaling.chinchilla import (
    BESIROGLU_2024,
    GOPHER_COMPUTE,
    HOFFMANN_2022,
    Allocation,
    ChinchillaLaw,
    optimal_allocation,
)
from llmlib.scaling.flops import (
    PEAK_FLOPS,
    PF_DAY,
    RunCost,
    inference_flops,
    mfu,
    run_cost,
    training_flops,
)
from llmlib.scaling.kaplan import (
    JointLaw,
    PowerLaw,
    allocation_growth,
    loss_from_flops,
)

__all__ = [
    "BESIROGLU_2024",
    "GOPHER_COMPUTE",
    "HOFFMANN_2022",
    "PEAK_FLOPS",
    "PF_DAY",
    "Allocation",
    "ChinchillaLaw",
    "JointLaw",
    "PowerLaw",
    "RunCost",
    "allocation_growth",
    "inference_flops",
    "loss_from_flops",
    "mfu",
    "optimal_allocation",
    "run_cost",
    "training_flops",
]
