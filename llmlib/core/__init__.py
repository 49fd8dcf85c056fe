"""Seeds, devices, data that comes with the book, figure style, processes, memory, sandbox."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.core.cache import cache_dir
    from llmlib.core.figures import PALETTE, draw_band, draw_intervals, draw_seeds, use_style
    from llmlib.core.files import atomic_path, atomic_write
    from llmlib.core.hardware.device import best_device, supports_bfloat16
    from llmlib.core.hardware.machine import available_cores, machine_class, matmul_rate, versions
    from llmlib.core.hardware.memory import MemoryMeter, tracked_allocations
    from llmlib.core.processes.launcher import RankError, launch
    from llmlib.core.processes.sandbox import SandboxResult, run_python
    from llmlib.core.processes.workers import Workers
    from llmlib.core.resources import resource
    from llmlib.core.seeding import seed_everything
    from llmlib.core.statistics import Interval, paired_interval, t_interval, wilson
    from llmlib.core.survey.tables import Table, load_table, table_names

__getattr__, __dir__, __all__ = lazy_face(__name__)
