"""Scaling laws, budgets and FLOP arithmetic on plain numbers."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
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
    from llmlib.scaling.kaplan import JointLaw, PowerLaw, allocation_growth, loss_from_flops

__getattr__, __dir__, __all__ = lazy_face(__name__)
