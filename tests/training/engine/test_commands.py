"""The `torchrun` lines of the chapter's notebooks, run as they stand there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

from llmlib.training import read_metrics

CHAPTER = ROOT / "chapters" / "05_training"


def lines() -> list[str]:
    """Return the lines that begin with `torchrun` in blocks of bash, in order."""
    found: list[str] = []
    for path in sorted(CHAPTER.glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                blocks = re.findall(r"```bash\n(.*?)```", "".join(cell["source"]), re.DOTALL)
                found += re.findall(r"^torchrun .*$", "\n".join(blocks), re.MULTILINE)
    return found


@pytest.mark.slow
@pytest.mark.covers("train.engine")
def test_every_torchrun_line_trains_to_its_end(tmp_path: Path) -> None:
    assert len(lines()) >= 3
    ends: dict[str, list[float]] = {}
    for line in lines():
        words = shlex.split(line)
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *words[1:]],
            cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
        folder = tmp_path / words[words.index("--out") + 1]
        assert (folder / "report.md").is_file()
        ends[folder.name] = [step["loss"] for step in read_metrics(folder / "metrics.jsonl")]
    fully_sharded, split = ends["engine"], ends["tensor"]
    assert len(fully_sharded) == 6
    assert split == pytest.approx(fully_sharded, rel=2e-3)  # in bfloat16
