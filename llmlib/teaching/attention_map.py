"""Draw what attention heads look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from llmlib.core.figures import use_style
from llmlib.teaching.widgets import with_controls

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_LABELS = 40  # more words than that on an axis run into each other


def visible(token: str) -> str:
    """Show a token's blanks, so that ` a` and `a` look different on an axis.

    Example:
        >>> visible(" the")
        '␣the'
    """
    text = token.replace(" ", "␣").replace("\n", "\\n").replace("\t", "\\t")
    # matplotlib would read a pair of dollars as mathematics.
    return text.replace("$", "\\$")


def draw_attention(
    weights: Float[Tensor, "T S"],
    queries: Sequence[str],
    keys: Sequence[str] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw one head's weights: a row is a query position and sums to one.

    Args:
        queries: The tokens of the T query positions.
        keys: The tokens of the S key positions; the queries by default.

    Returns:
        The figure; it is not shown.

    Raises:
        ValueError: If the tokens do not fit the weights' shape.

    References:
        Vaswani et al. (2017), figures 3 to 5, draw the same weights as lines.
    """
    from matplotlib import pyplot

    keys = queries if keys is None else keys
    if weights.shape != (len(queries), len(keys)):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} need {weights.shape[0]} query tokens and "
            f"{weights.shape[1]} key tokens, not {len(queries)} and {len(keys)}"
        )
    use_style()
    longest = max(len(queries), len(keys))
    side = min(7.0, max(3.6, 0.24 * longest + 1.4))
    figure, axes = pyplot.subplots(figsize=(side + 0.7, side))
    # White for nothing, so that the few places a head does look at stand out.
    picture = axes.imshow(weights.detach().float().cpu().numpy(), vmin=0, vmax=1, cmap="Blues")
    axes.grid(False)
    size = 9.0 if longest <= 20 else 7.0
    for axis, tokens in ((axes.xaxis, keys), (axes.yaxis, queries)):
        step = -(-len(tokens) // _MAX_LABELS)
        places = range(0, len(tokens), step)
        axis.set_ticks(list(places), [visible(tokens[i]) for i in places], size=size)
    axes.tick_params(axis="x", rotation=90, length=2)
    axes.tick_params(axis="y", length=2)
    axes.set_xlabel("key position, looked at")
    axes.set_ylabel("query position, looking")
    axes.set_title(title)
    figure.colorbar(picture, ax=axes, label="attention weight", fraction=0.046, pad=0.03)
    return figure


def explore_attention(
    weights: Float[Tensor, "layers H T S"],
    tokens: Sequence[str],
    *,
    layer: int = 0,
    head: int = 0,
) -> None:
    """Show a model's attention maps of one text, with a slider for the layer and one for the head.

    The still picture shows `head` of `layer`, both counted from 0.
    """
    layers, heads = weights.shape[:2]

    def draw(layer: int, head: int) -> Figure:
        return draw_attention(weights[layer, head], tokens, title=f"layer {layer}, head {head}")

    choices = {"layer": range(layers), "head": range(heads)}
    with_controls(draw, choices, {"layer": layer, "head": head})
