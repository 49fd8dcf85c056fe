import platform
import subprocess
import sys

import pytest
import torch

from llmlib.core import best_device, seed_everything, supports_bfloat16
from llmlib.core.figures import PALETTE, STYLE, use_style
from llmlib.core.hardware.machine import available_cores, machine_class, matmul_rate, versions


def test_the_class_of_machine_names_cores_and_never_the_host() -> None:
    text = machine_class()
    assert f"{available_cores()} core" in text
    if len(platform.node()) > 3:
        assert platform.node() not in text


def test_the_matmul_rate_is_a_plausible_count_of_flops() -> None:
    rate = matmul_rate(torch.float32, size=257, seconds=0.05)
    assert 1e8 < rate < 1e14
    with pytest.raises(ValueError, match="positive"):
        matmul_rate(torch.float32, size=0)


def test_versions_name_what_is_absent() -> None:
    found = versions("no-such-distribution")
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert found["no-such-distribution"] == "absent"


def test_one_seed_fixes_every_source() -> None:
    import random

    import numpy as np

    def draw() -> tuple[float, float, float, float]:
        generator = seed_everything(31)
        own = torch.rand((), generator=generator).item()
        return random.random(), float(np.random.rand()), torch.rand(()).item(), own

    first = draw()
    assert draw() == first
    with pytest.raises(ValueError, match=r"2\*\*32"):
        seed_everything(-1)


def test_devices_that_are_absent_are_refused() -> None:
    assert best_device("cpu").type == "cpu"
    assert best_device().type in ("cpu", "cuda", "mps")
    assert not supports_bfloat16("meta")
    with pytest.raises(ValueError, match="names no device"):
        best_device("abacus")
    if torch.cuda.device_count() < 8:
        with pytest.raises(ValueError, match="not on this machine"):
            best_device("cuda:7")


def test_the_style_reaches_a_saved_figure() -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        use_style()
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(PALETTE)
        figure = Figure()
        assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
        assert figure.dpi == STYLE["figure.dpi"] <= 150


@pytest.mark.parametrize("kind", ["deutan", "protan"])
def test_the_palette_survives_colour_blindness(kind: str) -> None:
    # Dichromats' view in linear RGB, Vienot, Brettel and Mollon (1999), eqs. for the two kinds.
    rgb = torch.tensor([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in PALETTE])
    linear = rgb**2.2
    red, green, blue = linear.T
    share = 0.11238 if kind == "protan" else 0.29275
    merged = share * red + (1 - share) * green
    seen = torch.stack([merged, merged, blue], -1).clamp(0) ** (1 / 2.2)
    distance = torch.cdist(seen, seen) + torch.eye(len(PALETTE))
    assert distance.min() > 0.1


def test_core_imports_without_torch_or_matplotlib() -> None:
    code = (
        "import sys, llmlib.core, llmlib.core.resources, llmlib.core.cache, llmlib.core.files;"
        "from llmlib.core import resource, cache_dir, use_style, PALETTE;"
        "print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
