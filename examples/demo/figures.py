"""The look all figures of the report share; drawn off screen."""

from __future__ import annotations

from typing import Any

BLUE, ORANGE, GREEN, RED, GREY = "#2456a6", "#d9822b", "#2e8b57", "#b3392f", "#8a94a3"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": "#3a4351",
    "axes.edgecolor": "#aab3bf",
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6eaef",
    "grid.linewidth": 0.7,
    "xtick.color": "#5b6675",
    "ytick.color": "#5b6675",
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "cola-core",
}


def subplots(
    rows: int = 1, columns: int = 1, height: float = 3.4, width: float = 10.0, **options: Any
) -> tuple[Any, Any]:
    """A figure and its axes, as ``matplotlib.pyplot.subplots`` gives them."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(STYLE)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def picture(axes: Any) -> Any:
    """Axes for an image or a mesh: no frame, no ticks, equal scales."""
    axes.set_axis_off()
    axes.set_aspect("equal")
    return axes
