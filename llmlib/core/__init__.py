"""Seeds, devices, resources, figure style, processes, memory and sandboxed execution."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache import cache_dir
    from .device import best_device, supports_bfloat16
    from .figures import PALETTE, use_style
    from .files import atomic_path, atomic_write
    from .resources import resource
    from .seeding import seed_everything

__all__ = [
    "PALETTE",
    "atomic_path",
    "atomic_write",
    "best_device",
    "cache_dir",
    "resource",
    "seed_everything",
    "supports_bfloat16",
    "use_style",
]

# Loaded on first use, so that a reader of one table does not wait for torch and matplotlib.
_HOMES = {
    "PALETTE": "figures",
    "atomic_path": "files",
    "atomic_write": "files",
    "best_device": "device",
    "cache_dir": "cache",
    "resource": "resources",
    "seed_everything": "seeding",
    "supports_bfloat16": "device",
    "use_style": "figures",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
