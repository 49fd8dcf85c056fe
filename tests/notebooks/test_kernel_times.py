"""A notebook's processor time is its kernel's, with the processes that the kernel starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from project import ROOT

BURN = (
    "import time\nuntil = time.process_time() + {seconds}\nwhile time.process_time() < until: pass"
)
CHILD = f"import subprocess, sys\nburn = {BURN!r}.format(seconds=SECONDS)\n"
CHILD += "child = subprocess.Popen([sys.executable, '-c', burn + ENDING], stdout=subprocess.PIPE)\n"

NOTEBOOKS = {
    "01_idle": ["import time", "time.sleep(3)"],
    "02_busy": [BURN.format(seconds=0.7), BURN.format(seconds=0.7)],
    "03_child": [f"SECONDS, ENDING = 1.4, ''\n{CHILD}_ = child.wait()"],
    # Still there when the kernel is stopped, so that nobody waits for it.
    "04_left": [
        f"SECONDS, ENDING = 1.4, '\\nprint(flush=True); time.sleep(20)'\n{CHILD}"
        "_ = child.stdout.readline()"
    ],
}


@pytest.mark.slow
def test_what_each_notebook_took(tmp_path: Path) -> None:
    for name, sources in NOTEBOOKS.items():
        notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-W", "default"]
    command += ["-n", "2", "--dist", "loadfile", "--nbval", "--nbval-current-env"]
    command += ["-p", "tools.kernel_times", f"--kernel-times={report}", f"--rootdir={tmp_path}"]
    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"LLMLIB_RUN": "11"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    record = json.loads(report.read_text(encoding="utf-8"))
    assert record["run"] == "11"
    took = {Path(name).stem: seconds for name, seconds in record["notebooks"].items()}
    assert set(took) == set(NOTEBOOKS)
    assert 0.1 < took["01_idle"] < 2.9  # a kernel's own start, without its sleep
    for name in ("02_busy", "03_child", "04_left"):
        assert 1.4 < took[name] < 1.4 + 2 * took["01_idle"], name
