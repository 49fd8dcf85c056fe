"""Put the project's data and the exercises' solutions into the wheel.

`llmlib.core.resources.resource` finds them there as it does in a checkout.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # an editable install reads them from the checkout
            return
        root = Path(self.root)
        include = build_data["force_include"]
        include[str(root / "data")] = "llmlib/_data"
        for folder in sorted(root.glob("chapters/*/solutions")):
            include[str(folder)] = f"llmlib/_data/solutions/{folder.parent.name}"
