import base64
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

from llmlib.teaching.attention_map import draw_attention, explore_attention, visible
from llmlib.teaching.widgets import live_frontend, with_controls, with_slider

PNG = b"\x89PNG"
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("LLMLIB_WIDGETS", raising=False)
    with mpl.rc_context({"backend": "agg"}):
        yield
    assert pyplot.get_fignums() == []  # each figure is closed, or the backend shows it twice


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def line(slope: float) -> Figure:
    figure, axes = pyplot.subplots(figsize=(2, 2))
    axes.plot([0, 1], [0, slope])
    return figure


def test_without_a_front_end_there_is_one_still_picture(shown: list[dict[str, Any]]) -> None:
    with_slider(line, "slope", [1.0, 2.0, 3.0], static=2.0)
    with_slider(line, "slope", [1.0, 2.0, 3.0], static=2.0)
    first, second = shown
    assert sorted(first) == ["image/png", "text/plain"]
    assert first["text/plain"] == "<figure: slope=2.0>"
    assert base64.b64decode(first["image/png"]).startswith(PNG)
    assert first == second  # nothing changes from run to run


def test_with_a_front_end_the_picture_follows_the_slider(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ipywidgets

    boxes: list[Any] = []
    real = ipywidgets.VBox
    monkeypatch.setattr(
        ipywidgets, "VBox", lambda children: boxes.append(real(children)) or boxes[-1]
    )
    monkeypatch.setenv("LLMLIB_WIDGETS", "1")
    drawn: list[float] = []

    def draw(slope: float) -> Figure:
        drawn.append(slope)
        return line(slope)

    with_slider(draw, "slope", [1.0, 2.0, 3.0])
    (bundle,) = shown
    assert bundle[VIEW]["model_id"] == boxes[0].model_id
    assert "image/png" in bundle  # what a saved notebook falls back on
    slider, image = boxes[0].children
    first = bytes(image.value)
    slider.value = 3.0
    assert bytes(image.value).startswith(PNG)
    assert bytes(image.value) != first
    slider.value = 1.0
    assert bytes(image.value) == first
    assert drawn == [1.0, 3.0]  # a value seen before is not drawn again


def test_the_still_picture_must_be_one_of_the_choices() -> None:
    with pytest.raises(ValueError, match="slope's 2 values"):
        with_slider(line, "slope", [1.0, 2.0], static=7.0)
    with pytest.raises(ValueError, match="slope's 0 values"):
        with_slider(line, "slope", [])
    with pytest.raises(ValueError, match="static says None"):
        with_controls(line, {"slope": [1.0]}, {})


def test_who_counts_as_a_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for mark in ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG", "VSCODE_PID"):
        monkeypatch.delenv(mark, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert not live_frontend()
    monkeypatch.setenv("JPY_SESSION_NAME", "lesson.ipynb")
    assert live_frontend()
    monkeypatch.setenv("LLMLIB_WIDGETS", "0")
    assert not live_frontend()


def test_an_attention_map_shows_the_weights_and_the_tokens() -> None:
    weights = torch.softmax(torch.randn(5, 7), -1)
    figure = draw_attention(weights, list("abcde"), list("stuvwxy"), title="layer 0, head 1")
    axes = figure.axes[0]
    shown = axes.images[0].get_array()
    assert shown is not None
    torch.testing.assert_close(torch.tensor(shown), weights)
    assert [text.get_text() for text in axes.get_yticklabels()] == list("abcde")
    assert axes.images[0].get_clim() == (0, 1)  # maps of different heads can be compared
    pyplot.close(figure)
    with pytest.raises(ValueError, match="5 query tokens and 7 key tokens, not 4 and 7"):
        draw_attention(weights, list("abcd"), list("stuvwxy"))


def test_a_long_text_keeps_its_labels_apart() -> None:
    figure = draw_attention(torch.eye(97), ["x"] * 97)
    assert len(figure.axes[0].get_xticks()) <= 40
    pyplot.close(figure)


def test_heads_are_explored(shown: list[dict[str, Any]]) -> None:
    weights = torch.softmax(torch.randn(2, 3, 5, 5), -1)
    explore_attention(weights, ["The", " cat", "\n", "$x$", "_"], layer=1, head=2)
    assert shown[0]["text/plain"] == "<figure: layer=1, head=2>"
    assert visible("a b\n") == "a␣b\\n"


@pytest.mark.slow
def test_a_notebook_run_stores_the_picture_alone(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    source = """\
from matplotlib import pyplot
from llmlib.teaching.widgets import with_slider

def draw(n):
    figure, axes = pyplot.subplots()
    axes.plot([0, n])
    return figure

with_slider(draw, "n", [1, 2, 3], static=2)"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute(cwd=str(tmp_path))
    (output,) = notebook.cells[0].outputs
    assert sorted(output["data"]) == ["image/png", "text/plain"]
    assert output["data"]["text/plain"] == "<figure: n=2>"
    assert not json.loads(nbformat.writes(notebook))["metadata"].get("widgets")
