"""Stages of a long job that are done once, however often the job is started."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlib.core.files import atomic_write


@dataclass(frozen=True)
class Stages:
    """A folder that remembers which stages of a job are done, and from what.

    `say` is called with one line about each stage.
    """

    folder: Path
    say: Callable[[str], None] = print

    def is_done(self, name: str) -> bool:
        """Tell whether a stage's record is there."""
        return self._record(name).exists()

    def _record(self, name: str) -> Path:
        return self.folder / "stages" / f"{name}.json"

    def once(
        self, name: str, inputs: dict[str, Any], make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Do a stage, or return what it gave when it was done before.

        A stage's record is written after its artifacts, so a job that was stopped half-way does
        the stage again from its start.

        Args:
            name: The stage; its record is `stages/NAME.json`.
            inputs: All that decides the outcome, as JSON values.
            make: Does the work and returns what later stages need to know, as JSON values.

        Returns:
            What `make` returned, now or then; `seconds` says how long it took then.

        Raises:
            ValueError: When the folder holds the stage done from other inputs.
        """
        path = self._record(name)
        inputs = json.loads(json.dumps(inputs))  # as they will be read back
        if path.exists():
            record = _read(path)
            if record["inputs"] != inputs:
                changed = sorted(
                    key
                    for key in inputs.keys() | record["inputs"].keys()
                    if inputs.get(key) != record["inputs"].get(key)
                )
                raise ValueError(
                    f"{self.folder} holds another run (its {name} differs in "
                    f"{', '.join(changed)}): choose another --out, or delete that folder"
                )
            self.say(f"{name}: done before")
            return record["result"]
        self.say(f"{name} ...")
        began = time.perf_counter()
        result = make()
        result["seconds"] = round(time.perf_counter() - began, 2)
        atomic_write(path, json.dumps({"inputs": inputs, "result": result}, indent=1) + "\n")
        return result


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {"inputs": record["inputs"], "result": record["result"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it to do its stage again") from error
