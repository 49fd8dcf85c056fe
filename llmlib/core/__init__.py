"""Seeds, devices, data that comes with the book, figure style, processes, memory, sandbox."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache import cache_dir
    from .device import best_device, supports_bfloat16
    from .figures import PALETTE, use_style
    from .files import atomic_path, atomic_write
    from .launcher import RankError, launch
    from .machine import available_cores, machine_class, matmul_rate, versions
    from .memory import MemoryMeter, tracked_allocations
    from .resources import resource
    from .sandbox import SandboxResult, run_python
    from .seeding import seed_everything
    from .statistics import Interval, paired_interval, t_interval, wilson
    from .survey import Table, load_table, table_names
    from .workers import Workers

__all__ = [
    "PALETTE",
    "Interval",
    "MemoryMeter",
    "RankError",
    "SandboxResult",
    "Table",
    "Workers",
    "atomic_path",
    "atomic_write",
    "available_cores",
    "best_device",
    "cache_dir",
    "launch",
    "load_table",
    "machine_class",
    "matmul_rate",
    "paired_interval",
    "resource",
    "run_python",
    "seed_everything",
    "supports_bfloat16",
    "t_interval",
    "table_names",
    "tracked_allocations",
    "use_style",
    "versions",
    "wilson",
]

# Loaded on first use, so that a reader of one table does not wait for torch and matplotlib.
_HOMES = {
    "cache": ("cache_dir",),
    "device": ("best_device", "supports_bfloat16"),
    "figures": ("PALETTE", "use_style"),
    "files": ("atomic_path", "atomic_write"),
    "launcher": ("RankError", "launch"),
    "machine": ("available_cores", "machine_class", "matmul_rate", "versions"),
    "memory": ("MemoryMeter", "tracked_allocations"),
    "resources": ("resource",),
    "sandbox": ("SandboxResult", "run_python"),
    "seeding": ("seed_everything",),
    "statistics": ("Interval", "paired_interval", "t_interval", "wilson"),
    "survey": ("Table", "load_table", "table_names"),
    "workers": ("Workers",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
