"""Sliders and plates of images: a slider shows the images, histogram and accuracies of one level of a transform at a time.

The HTML works without JavaScript and then shows all levels side by side; `book/_static/levels.js` puts a slider above them.
Colours are those of the figures; text takes the colour of the page.
"""

import base64
import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import HTML
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from lib.report.exhibit import Page, Source, exhibit, histograms, pictures, published, runs
from lib.report.plot import STYLE, not_yet, wrapped
from lib.report.table import Column
from lib.report.values import BOXED, PALETTE, QUANTITIES, at_our_width, over_seeds, paper_values, transforms_of
from lib.report.words import as_plain_text, badge, transform_label

CLEAN = ("standard", "clean_accuracy")
# Of the chart, in units of its viewBox: its size, and the four margins of what is plotted.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 360, 180, 30, 10, 18, 22
_GAP = 1  # pixels between two images


Pictures = tuple[Mapping[str, Float[np.ndarray, "n h w c"]], str]  # as `experiments.pictures` gives them


class _Line(NamedTuple):
    """A line of a slider's chart, and a column of its table: `read` gives its percents by transform, for a quantity."""

    heading: str
    phrase: str
    read: Callable[[tuple[str, str]], pd.Series]
    dashes: str = ""
    joined: bool = False  # the line passes over levels without a number


def level_slider(
    drawn: Pictures, histograms: pd.DataFrame, ours: pd.DataFrame, paper: pd.DataFrame | None = None,
    widths: pd.DataFrame | None = None, *, name: str, label: str,
) -> HTML:  # fmt: skip
    """Figures 1, 2 and 3a in one: for each transform of `drawn`, in their order, its images, histogram and accuracies.

    `name`: an identifier, unique on the page; `label`: what the slider moves, in words; `drawn`: images with values
    in [0, 1] by transform, and where they come from; `histograms`: as `results.histograms` does; `paper`: its Table 2 or 3, and
    `widths` its Table 4 or 5, of which the numbers of our width are taken; None where it prints none, which then have no
    column. A number that is not there is "–"; of a histogram that is not there, it says so.
    """
    pictures, source = drawn
    levels, frames, lines = list(pictures), [], []
    if paper is not None:
        lines.append(
            _Line("paper, wider (dotted)", "in the paper", lambda quantity: paper_values(paper, *quantity), dashes="1 3")
        )
    if widths is not None:
        at_width = partial(at_our_width, ours, widths)
        lines.append(_Line("paper, our width (dashed)", "in its networks of our width", at_width, dashes="5 3", joined=True))
    lines.append(_Line("ours (solid)", "here", lambda quantity: over_seeds(ours, *quantity)["mean"]))
    values = {quantity: [line.read(quantity).reindex(levels) for line in lines] for quantity in (CLEAN, BOXED)}
    headings = "".join(f'<th scope="col">{line.heading}</th>' for line in lines)
    tallest = int(histograms["count"].max()) if len(histograms) else 1
    for place, level in enumerate(levels):
        level_label = transform_label(level)
        numbers = {quantity: [_percent(curve[level]) for curve in curves] for quantity, curves in values.items()}
        rows = "".join(
            f'<tr><th scope="row">{_swatch(quantity)}{_SHORT[quantity]}</th><td>{"</td><td>".join(texts)}</td></tr>'
            for quantity, texts in numbers.items()
        )
        images = strip(pictures[level], f"{len(pictures[level])} test images, {level_label}")
        accuracies = ", ".join(f"{text} {line.phrase}" for text, line in zip(numbers[BOXED], lines, strict=True))
        caption = f"{level_label}: robust accuracy {accuracies}"
        frames.append(
            f'<li data-x="{_x_of(place, len(levels)):.1f}" data-label="{html.escape(level_label)}" '
            f'data-said="{html.escape(caption)}">'
            f"<strong>{html.escape(level_label)}</strong>{images}{_histogram(histograms, level, tallest)}"
            f"<table><thead><tr><td></td>{headings}</tr></thead>"
            f"<tbody>{rows}</tbody></table></li>"
        )
    note = " · ".join((source, as_plain_text(badge(ours))))
    return HTML(
        f'<div class="levels" id="levels-{html.escape(name)}" data-name="{html.escape(label)}" '
        f'data-start="{levels.index("original") if "original" in levels else 0}">'
        f"{_chart(levels, lines, values, label)}"
        f'<ul class="levels-frames">{"".join(frames)}</ul>'
        f'<p class="levels-note">{html.escape(note)}</p></div>'
    )


_SHORT = {CLEAN: "clean, standard training", BOXED: "robust, PGD training"}


_percent = Column("", ".1f", "%").text


def _swatch(quantity: tuple[str, str]) -> str:
    return f'<span class="levels-swatch" style="background:{to_hex(QUANTITIES[quantity][2])}"></span>'


def _x_of(place: int, count: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place / (count - 1) if count > 1 else 0.5)


def _y_of(percent: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * percent / 100


def _chart(levels: Sequence[str], lines: Sequence[_Line], values: Mapping[tuple, Sequence[pd.Series]], label: str) -> str:
    """Both accuracies over the levels, by quantity a series for each line, the last of which is ours; and a marker."""
    parts = ['<text x="0" y="9">test images (%)</text>']
    for percent in (0, 25, 50, 75, 100):
        y = _y_of(percent)
        parts.append(f'<line class="levels-grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{percent}</text>')
    for place, anchor in ((0, "start"), (len(levels) - 1, "end")):
        x = _x_of(place, len(levels))
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{transform_label(levels[place])}</text>')
    parts.append(f'<line class="levels-marker" x1="-9" x2="-9" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    for quantity, curves in values.items():
        colour = to_hex(QUANTITIES[quantity][2])
        for line, series in zip(lines, curves, strict=True):
            style = f'stroke-dasharray="{line.dashes}"' if line.dashes else 'stroke-width="2"'
            parts.append(f'<path d="{_path(series, line.joined)}" fill="none" stroke="{colour}" {style}/>')
        for place, value in enumerate(curves[-1]):
            if math.isfinite(value):
                x = _x_of(place, len(levels))
                parts.append(f'<circle cx="{x:.1f}" cy="{_y_of(value):.1f}" r="3" fill="{colour}"/>')
    if not any(series.notna().any() for curves in values.values() for series in curves):
        parts.append(f'<text x="{_WIDTH - _RIGHT}" y="9" text-anchor="end">no accuracy is computed yet</text>')
    computed = int(values[BOXED][-1].notna().sum())
    description = (
        f"{label}: clean accuracy of standard training and robust accuracy of PGD training over {len(levels)} levels, in "
        f"percent of test images; {', '.join(line.heading for line in lines)}, computed at {computed} of them. The numbers are "
        f"below."
    )
    return (
        f'<svg class="levels-chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


def _path(values: pd.Series, joined: bool) -> str:
    """The path through the values there are; a value that is not there breaks it, unless it is `joined`."""
    steps, pen = [], "M"
    for place, value in enumerate(values):
        if not math.isfinite(value):
            pen = pen if joined else "M"
            continue
        steps.append(f"{pen}{_x_of(place, len(values)):.1f} {_y_of(value):.1f}")
        pen = "L"
    return "".join(steps)


def strip(images: np.ndarray, alt: str) -> str:
    """The images, N×H×W×C with values in [0, 1], side by side with the page between them, as one PNG; `alt`: what it shows."""
    n, height, width, _ = images.shape
    solid = np.concatenate([np.broadcast_to(images, (n, height, width, 3)), np.ones((n, height, width, 1))], axis=-1)
    row = np.concatenate([np.pad(image, [(0, 0), (0, _GAP), (0, 0)]) for image in solid], axis=1)[:, :-_GAP]
    picture, file = Image.fromarray((255 * row).round().astype(np.uint8), "RGBA"), io.BytesIO()
    picture.save(file, "png", optimize=True)
    content = base64.b64encode(file.getvalue()).decode()
    return (
        f'<img class="levels-strip" width="{picture.width}" height="{picture.height}" src="data:image/png;base64,{content}" '
        f'alt="{html.escape(alt)}">'
    )


def _histogram(histograms: pd.DataFrame, level: str, tallest: int) -> str:
    """The pixel values of a level as bars, counts on a logarithmic scale that all levels share."""
    rows = histograms[histograms["transform"] == level] if len(histograms) else histograms
    level_label = transform_label(level)
    if rows.empty:
        return '<p class="levels-missing">pixel histogram: not computed yet</p>'
    heights = 40 * np.log10(1 + rows["count"]) / math.log10(1 + tallest)
    bars = "".join(
        f"M{100 * left:.1f} 40V{40 - height:.1f}H{100 * right:.1f}V40Z"
        for left, right, height in zip(rows["left"], rows["right"], heights, strict=True)
        if height > 0
    )
    ends = rows["count"].iloc[[0, -1]].sum() / rows["count"].sum()
    description = (
        f"Pixel values of {level_label}, counts on a logarithmic scale: {100 * ends:.0f}% of them in the outermost two bins."
    )
    return (
        f'<svg class="levels-histogram" viewBox="0 0 100 50" role="img" aria-label="{html.escape(description)}">'
        f'<path d="{bars}"/><path class="levels-axis" d="M0 40.5H100"/><text x="0" y="49">0</text>'
        f'<text x="50" y="49" text-anchor="middle">pixel value</text><text x="100" y="49" text-anchor="end">1</text></svg>'
    )


def histogram_figure(histograms: pd.DataFrame) -> Figure:
    """Figure 1, a and b: the pixel values of each variant's test images, counts on a logarithmic scale.

    `histograms`: as `results.histograms` gives it, with columns `transform`, `left`, `right` (pixel value) and `count`.
    """
    with mpl.rc_context(STYLE):
        names = list(histograms["transform"].unique())
        figure = Figure(figsize=(7.2, 2.0), layout="constrained")
        if not names:
            return not_yet(figure, histograms)
        axes = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
        for ax, name in zip(axes, names, strict=True):
            rows = histograms[histograms["transform"] == name]
            ax.stairs(rows["count"], [*rows["left"], rows["right"].iloc[-1]], fill=True, color=PALETTE[0])
            ax.set(yscale="log", title=transform_label(name), xticks=[0, 0.5, 1])
            ax.set_xticklabels(["0", ".5", "1"])
        axes[0].set_ylabel("pixels")
        axes[len(axes) // 2].set_xlabel("pixel value")
    return figure


def picture_plate(drawn: Pictures, *, by_row: bool = False) -> Figure:
    """Figures 1 and 3, the images: the same ones under each transform, one column a transform, one row an image.

    `drawn`: images with values in [0, 1] by transform, and where they come from, which is printed below.
    `by_row`: one row a transform instead, for many images under few transforms.
    """
    pictures, source = drawn
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        if by_row:
            return _rows_plate(pictures, source)
        rows = len(next(iter(pictures.values())))
        figure = Figure(figsize=(7.2, 7.2 / len(pictures) * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, len(pictures), squeeze=False)
        for column, (name, images) in zip(axes.T, pictures.items(), strict=True):
            column[0].set_title(transform_label(name), fontsize=8)
            for ax, image in zip(column, images, strict=True):
                _picture(ax, image)
        figure.supxlabel(wrapped(source.replace("; ", " · ")), fontsize=8, color="dimgrey", parse_math=False)
    return figure


def _rows_plate(pictures: Mapping[str, np.ndarray], source: str) -> Figure:
    columns = len(next(iter(pictures.values())))
    figure = Figure(figsize=(7.2, 7.2 / columns * len(pictures) + 0.7), layout="constrained")
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    for row, (name, images) in zip(axes, pictures.items(), strict=True):
        row[0].set_title(transform_label(name), fontsize=8, loc="left")
        for ax, image in zip(row, images, strict=True):
            _picture(ax, image)
    figure.supxlabel(wrapped(source.replace("; ", " · ")), fontsize=8, color="dimgrey", parse_math=False)
    return figure


def _picture(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()


_DIGITS = ("binarize", "original", "smooth-2", "smooth-3", "smooth-4", "smooth-5")
_LEVELS = ("original", "saturate-4", "saturate-8", "saturate-16", "saturate-64", "saturate-inf")
_CIFAR10 = ("cifar10", "cifar10-jpeg", "colour-patches")


def _names_of(*reads: Source) -> Callable[[Page], list[str]]:
    """The transforms of some frames."""
    return lambda page: transforms_of(*map(page.value, reads))


def _slider(name: str, label: str, plate: tuple[str, ...], ours: Source, *paper: Source) -> None:
    names = _names_of(*paper[:1], ours)
    drawn = pictures(*plate, names=names, count=6, beside=ours)
    exhibit(f"slider-{name}", level_slider, drawn, histograms(f"slider-{name}"), ours, *paper, name=name, label=label)


exhibit("figure-1a", histogram_figure, histograms("figure-1a"))
exhibit("figure-1b", histogram_figure, histograms("figure-1b"))
exhibit("figure-3b-pixels", histogram_figure, histograms("figure-3b-pixels"))
exhibit("figure-1c", picture_plate, pictures("mnist", "mnist-5000", names=lambda page: _DIGITS))
exhibit("figure-1d", picture_plate, pictures(*_CIFAR10, names=lambda page: _LEVELS))
exhibit("figure-3a-pictures", picture_plate, pictures(*_CIFAR10, names=_names_of(runs("figure-3a")), beside=runs("figure-3a")))
_CLOTHES = pictures("fashion_mnist", "grey-patches", names=_names_of(runs("figure-3b")), count=10, beside=runs("figure-3b"))
exhibit("figure-3b-pictures", picture_plate, _CLOTHES, by_row=True)
_slider("smooth", "Smoothing of MNIST", ("mnist", "mnist-5000"), runs("table-2"), published("table-2"), published("table-4"))
_slider("saturate", "Saturation of CIFAR10", _CIFAR10, runs("table-3"), published("table-3"), published("table-5"))
_slider("gamma", "Gamma mapping of CIFAR10", _CIFAR10, runs("figure-3a"))
