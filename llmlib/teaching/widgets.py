"""A figure with controls: live in a notebook, a still picture in the rendered book.

The rendered book has no kernel, and a widget there would be dead. So a run without a front-end
(`nbconvert`, nbval, the book's build) stores one PNG, drawn for the `static` choice, and nothing
that changes from run to run. Where a person sits in front of the kernel, the same call shows the
controls above the picture.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# JupyterLab and Notebook, Colab, VS Code: each marks the kernels that a person looks at.
_MARKS = ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG", "VSCODE_PID")


def live_frontend() -> bool:
    """Tell whether controls make sense: a person's front-end and ipywidgets are there.

    `LLMLIB_WIDGETS=0` or `1` in the environment overrides the guess.

    Example:
        >>> live_frontend()  # nor under nbconvert and nbval
        False
    """
    if choice := os.environ.get("LLMLIB_WIDGETS"):
        return choice != "0"
    if "ipykernel" not in sys.modules or not any(mark in os.environ for mark in _MARKS):
        return False
    try:
        import ipywidgets  # noqa: F401 - only whether it is there
    except ModuleNotFoundError:
        return False
    return True


def with_slider(
    draw: Callable[[Any], Figure],
    name: str,
    values: Sequence[Any],
    *,
    static: Any = None,
) -> None:
    """Show a figure that depends on one value, with a slider where there is someone to move it.

    Args:
        draw: Takes the value and returns a figure.
        static: The value of the still picture and of the slider at first; the first by default.
    """
    chosen = values[0] if static is None and len(values) else static
    with_controls(lambda **choice: draw(choice[name]), {name: values}, {name: chosen})


def with_controls(
    draw: Callable[..., Figure],
    choices: Mapping[str, Sequence[Any]],
    static: Mapping[str, Any],
) -> None:
    """Show a figure that depends on several values, each with a slider of its own.

    Args:
        draw: Takes the values by name and returns a figure.
        static: The values of the still picture and of the controls at first.

    Raises:
        ValueError: If a control has no values, or `static` does not choose one for each.
    """
    for name, values in choices.items():
        if name not in static or static[name] not in list(values):
            raise ValueError(
                f"choose one of {name}'s {len(values)} values for the still picture; "
                f"static says {static.get(name)!r}"
            )
    from IPython.display import display

    picture = figure_png(draw(**static))
    words = ", ".join(f"{name}={value}" for name, value in static.items())
    bundle: dict[str, Any] = {
        "image/png": base64.b64encode(picture).decode(),
        "text/plain": f"<figure: {words}>",
    }
    if live_frontend():
        # One output with both forms: the front-end shows the control, a saved file the picture.
        box = _controls(draw, choices, static, picture)
        view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
        bundle["application/vnd.jupyter.widget-view+json"] = view
    display(bundle, raw=True)


def figure_png(figure: Figure) -> bytes:
    """Render a figure at its resolution and close it.

    The picture does not name the version of matplotlib.
    """
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
    pyplot.close(figure)  # or the inline backend shows it once more
    return buffer.getvalue()


def _controls(
    draw: Callable[..., Figure],
    choices: Mapping[str, Sequence[Any]],
    static: Mapping[str, Any],
    picture: bytes,
) -> Any:
    """Build the sliders over an image that follows them."""
    import ipywidgets

    image = ipywidgets.Image(value=picture, format="png")
    image.layout.max_width = "100%"
    sliders = {
        name: ipywidgets.SelectionSlider(
            options=list(values),
            value=static[name],
            description=name,
            continuous_update=False,
            style={"description_width": "initial"},
        )
        for name, values in choices.items()
    }
    drawn = {tuple(static.values()): picture}

    def follow(_: object) -> None:
        choice = {name: slider.value for name, slider in sliders.items()}
        key = tuple(choice.values())
        if key not in drawn:
            drawn[key] = figure_png(draw(**choice))
        image.value = drawn[key]

    for slider in sliders.values():
        slider.observe(follow, names="value")
    return ipywidgets.VBox([*sliders.values(), image])
