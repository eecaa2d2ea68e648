"""The style that all figures share: our lines are solid, the paper's dashed.

Throughout the book the colour stands for the quantity; in a panel of one quantity it stands for the variant.
"""

from collections.abc import Sequence
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.report.values import share_intervals, span

STYLE = {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.hashsalt": "exhibits",  # the same figure gives the same file
}

# On a phone: the width of a figure, and the largest heights of a panel alone, of one of several and of all panels, in inches.
# Type of 8 points is nearly as large there as that of the text; so many characters of it fill a line.
_PHONE = (4.0, 3.4, 2.5, 10.0)
_PHONE_LINE = 60
_UPRIGHT = 10  # so many slanting labels at most; more stand upright


def error_bar(row: pd.Series) -> tuple[float, float]:
    """The lengths of the error bar below and above the mean."""
    if not row["seeds"] > 0:
        return (np.nan, np.nan)
    low, high = span(row)
    return (row["mean"] - low, high - row["mean"])


def error_bars(estimates: pd.DataFrame) -> np.ndarray:
    """As `error_bar`, of the rows of `values.over_seeds`: two rows, below and above."""
    return np.reshape([error_bar(row) for _, row in estimates.iterrows()], (-1, 2)).T


def draw_estimates(ax: Axes, names: Sequence[str], estimates: pd.DataFrame, *, joined: bool, **style) -> None:
    """Draw the means of `values.over_seeds` at the places of `names`, with their error bars.

    `joined`: the line does not break where nothing is computed. `style`: as `Axes.errorbar` takes it.
    """
    estimates = estimates[estimates["seeds"] > 0].reindex(names)
    estimates = estimates.dropna(subset="mean") if joined else estimates
    places = [list(names).index(name) for name in estimates.index]
    ax.errorbar(places, estimates["mean"], yerr=error_bars(estimates), linewidth=1.6, capsize=2, **style)


def wrapped(text: str, width: int = 110) -> str:
    """A line of parts with " · " between them, broken there."""
    lines = [""]
    for part in text.split(" · "):
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def not_yet(figure: Figure, rows: pd.DataFrame) -> Figure:
    """A figure that says how to compute what is missing."""
    figure.set_size_inches(7.2, 1.0)
    ax = figure.subplots()  # a notebook shows no figure without axes
    ax.set_axis_off()
    ax.text(0.5, 0.5, f"not computed yet; compute it with:\n{rows.attrs['command']}", ha="center", va="center")
    return figure


def stack(figure: Figure) -> bool:
    """Make a figure as wide as a phone's screen, with its panels below one another and its legend above them, a line an entry.

    False, and no change, where its panels are of images or of words.
    """
    axes = figure.axes
    if any(ax.images or not ax.axison for ax in axes):
        return False
    width, alone, tallest, total = _PHONE
    grid = figure.add_gridspec(len(axes), 1)
    labels = [label for ax in axes if (label := ax.get_xlabel())]
    # In rows and columns only the first panels say what their row or column is of.
    places = [ax.get_subplotspec() for ax in axes]
    titles = {place.colspan.start: ax.title for ax, place in zip(axes, places, strict=True) if ax.get_title()}
    quantities = {place.rowspan.start: ax.get_ylabel() for ax, place in zip(axes, places, strict=True) if ax.get_ylabel()}
    for ax, before, place in zip(axes, places, grid, strict=True):
        ax.set_subplotspec(place)
        ax.tick_params(labelleft=True, labelbottom=True)
        title = ax.title if ax.get_title() else titles.get(before.colspan.start, ax.title)
        ax.title.set(text=title.get_text().replace("\n", " "), size=title.get_size())
        ax.set_ylabel(ax.get_ylabel() or quantities.get(before.rowspan.start, ""))
        if len(labels) == 1:  # one for all panels: it stands below the last
            ax.set_xlabel(labels[0] if ax is axes[-1] else "")
        rotated = [label for label in ax.get_xticklabels() if label.get_rotation()]
        if len(rotated) > _UPRIGHT:
            for label in rotated:
                label.set(rotation=90, ha="center")
    lines = _legends_above(figure)
    if caption := figure.get_supxlabel():
        figure.supxlabel(wrapped(caption.replace("\n", " · "), _PHONE_LINE), fontsize=8, color="dimgrey", parse_math=False)
        lines += figure.get_supxlabel().count("\n")
    height = figure.get_figheight() / len({place.rowspan.start for place in places})
    # A panel's own legend is placed relative to the panel's height.
    if len(axes) == 1 or not any(ax.get_legend() for ax in axes):
        height = min(height, alone if len(axes) == 1 else tallest, total / len(axes))
    figure.set_size_inches(width, len(axes) * height + 0.18 * lines)
    return True


def _legends_above(figure: Figure) -> int:
    """Put the legends of a figure, and of a single panel, above it, a line an entry. How many lines they have."""
    axes, lines = figure.axes, 0
    drawn = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    of_the_panel = [legend for ax in axes if len(axes) == 1 and (legend := ax.get_legend())]
    for old in [*figure.legends, *of_the_panel]:
        names, title = [text.get_text() for text in old.get_texts()], old.get_title().get_text() or None
        old.remove()
        handles = [drawn.get(name, handle) for name, handle in zip(names, old.legend_handles, strict=True)]
        figure.legend(handles, names, title=title, fontsize=8, frameon=False, loc="outside upper center")
        lines += len(names) + bool(title)
    return lines


def share_bars(ax: Axes, rows: pd.DataFrame, column: str, x: str, **style) -> None:
    """Shares of `n` in percent with Wilson's 95% intervals."""
    shares = 100 * rows[column] / rows["n"]
    spans = [(share - low, high - share) for share, (low, high) in zip(shares, share_intervals(rows, column), strict=True)]
    spans = np.maximum(np.transpose(spans), 0)  # Wilson's interval may end a rounding error short of 0 or 100
    ax.errorbar(rows[x], shares, yerr=spans, **{"linestyle": "none", "capsize": 2, "markersize": 4, **style})


def shades(count: int) -> list[tuple[float, ...]]:
    """So many colours in order, from dark to light, that are seen on white and, with their lightness turned, on black."""
    return [tuple(colour) for colour in mpl.colormaps["viridis"](np.linspace(0.05, 0.75, count))]


def looks_of(variants: Sequence[str]) -> dict[str, dict]:
    """Colour and marker of each variant."""
    looks = zip(variants, shades(len(variants)), cycle("oD^vs<>ph"), strict=False)  # the markers have no end
    return {name: {"color": colour, "marker": marker, "markersize": 4.5} for name, colour, marker in looks}
