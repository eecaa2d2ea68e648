"""Declarations of exhibits, and pages: what is read, once, and what a page refuses."""

from itertools import pairwise

import pandas as pd
import pytest
from frames import ROBUST, frame
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib import report
from lib.report import exhibit, plot
from lib.report.table import Column, Table


@pytest.fixture(autouse=True)
def no_other_exhibits(monkeypatch):
    monkeypatch.setattr(exhibit, "EXHIBITS", {})


@pytest.fixture
def asked(monkeypatch) -> list[tuple]:
    """What pages ask the records for, and the runs to compute."""
    requests = []

    def read(how):
        def reading(name, scale, **options):
            requests.append((how, name, scale, options))
            return frame(("original", *ROBUST, 94.0, 0), exhibit=name)

        return reading

    monkeypatch.setattr(exhibit.experiments, "compute", read("compute"))
    monkeypatch.setattr(exhibit.results, "select", read("select"))
    return requests


@pytest.fixture
def shown(monkeypatch) -> dict:
    outputs = {}
    monkeypatch.setattr(exhibit, "show", outputs.__setitem__)
    return outputs


def table(*frames) -> Table:
    return Table([Column("rows", "d")], [(len(each),) for each in frames])


def drawing(rows: pd.DataFrame) -> Figure:
    return Figure()


def words(rows) -> str:
    return f"{len(rows)} rows"


def test_a_page_reads_what_exhibits_need_once_and_shows_them_with_their_badge(asked, shown):
    exhibit.exhibit("a", table, exhibit.runs("table-2"))
    exhibit.exhibit("b", words, exhibit.runs("table-2"))
    exhibit.exhibit("c", drawing, exhibit.runs("table-2"))
    page = report.Page("smoke", 1, "cpu")
    page.show("a", "b", "c")
    page.stamp()
    assert asked == [
        ("compute", "table-2", "smoke", {"seeds": 1, "device": "cpu"}),
        ("select", "table-2", "smoke", {"seeds": 1}),
    ]
    assert set(shown) == {"a", "a-badge", "b", "c", "c-badge", "stamp"}
    assert shown["a"].rows == ((1,),)
    assert shown["a-badge"].startswith("scale laptop · MNIST")
    assert shown["c-badge"] == shown["a-badge"]
    assert shown["b"] == "1 rows"
    assert "Device: a processor. Commit `abc`." in shown["stamp"]


def test_a_source_says_what_stands_below_its_table(shown):
    exhibit.exhibit("a", table, exhibit.computed(lambda page: pd.DataFrame({"value": [1, 2]}), badge_line=words))
    report.Page().show("a")
    assert shown["a-badge"] == "2 rows"


def test_a_page_that_only_reads_computes_nothing(asked, shown):
    exhibit.exhibit("a", table, exhibit.runs("table-2"))
    report.Page("smoke", compute=False).show("a")
    report.Page("smoke").show("a", compute=False)
    assert {how for how, *_ in asked} == {"select"}


def test_an_exhibit_that_is_not_of_a_scale_is_read_at_another(asked, shown):
    exhibit.exhibit("a", table, exhibit.runs("tuning-mnist"))  # how scale laptop was tuned
    report.Page("paper").show("a")
    assert {scale for _, _, scale, _ in asked} == {"auto"}


def test_the_badge_is_of_the_scale_that_an_exhibit_is_read_at(monkeypatch):
    """An exhibit of the grid that is read at two scales has a line for each; where the page names a scale, both are of that."""

    def select(name, scale, **options):
        rows = frame(("original", *ROBUST, 94.0, 0), exhibit=name)
        rows.attrs["scale"] = scale
        return rows

    monkeypatch.setattr(exhibit.results, "select", select)
    exhibit.exhibit("a", table, exhibit.runs("table-2"), exhibit.runs("table-2", "paper"))
    exhibit.exhibit("b", table, exhibit.runs("table-2", "paper"))
    page = report.Page(compute=False)
    page.make("a")
    shared, auto, paper = page.badge("a").split("\n\n")
    assert "scale" not in shared
    assert (auto, paper) == ("`table-2`: scale auto", "`table-2`: scale paper")
    assert page.badge("b").startswith("scale paper · ")
    named = report.Page("smoke", compute=False)
    named.make("a")
    assert named.badge("a").startswith("scale smoke · ")


def test_some_of_the_sets_of_an_exhibit_are_read(asked, shown):
    exhibit.exhibit("a", lambda sets: ", ".join(sets), {"MNIST": exhibit.runs("table-2"), "CIFAR10": exhibit.runs("table-3")})
    assert report.Page().make("a") == "MNIST, CIFAR10"
    asked.clear()
    assert report.Page().make("a", only=["CIFAR10"]) == "CIFAR10"
    assert {name for _, name, _, _ in asked} == {"table-3"}


def test_a_name_is_declared_once_and_known():
    exhibit.exhibit("a", words, exhibit.runs("table-2"))
    with pytest.raises(ValueError, match="exhibit 'a' is declared twice"):
        exhibit.exhibit("a", words)
    with pytest.raises(ValueError, match="unknown exhibit 'b'; allowed: a"):
        report.Page().make("b")


@pytest.mark.parametrize("shape", [(1, 3), (1, 1), (2, 2)], ids=str)
def test_panels_stand_below_one_another_on_a_phone(shape):
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    axes = figure.subplots(*shape, squeeze=False, sharex=True, sharey=True)
    axes[0, 0].plot([0, 1], [0, 1], label="a line")
    for i, row in enumerate(axes):
        row[0].set_ylabel(f"points {i}")
    for i, ax in enumerate(axes[0]):
        ax.set_title(f"a title\nof column {i}")
    axes[-1, 0].set_xlabel("of all panels")
    figure.legend(loc="outside upper center", ncols=3)
    assert plot.stack(figure)
    figure.draw_without_rendering()
    assert figure.get_figwidth() < 4.5
    panels = axes.ravel()
    assert all(above.y0 > below.y1 for above, below in pairwise(ax.get_window_extent() for ax in panels))
    assert [ax.get_xlabel() for ax in panels] == [*[""] * (len(panels) - 1), "of all panels"]
    said = [(ax.get_ylabel(), ax.get_title()) for ax in panels]
    assert said == [(f"points {i}", f"a title of column {j}") for i in range(shape[0]) for j in range(shape[1])]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a line"]


def test_a_legend_of_one_of_several_panels_stays_where_it_was_placed():
    figure = Figure(figsize=(7.2, 6.0), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    axes[3].plot([0, 1], [0, 1], label="a line")
    axes[3].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    assert plot.stack(figure)
    assert axes[3].get_legend()
    assert figure.get_figheight() == 4 * 3.0  # each panel as high as it was


def test_the_legend_of_a_single_panel_stands_above_it_on_a_phone():
    """With its markers, a line an entry; what stands below the figure is broken into lines that fit."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    ax = figure.subplots()
    drawn = [ax.errorbar([0, 1], [0, i], yerr=0.1, fmt="o-", label=f"a line with a long name, number {i}") for i in range(3)]
    ax.set_xticks(range(12), [f"variant {i}" for i in range(12)], rotation=40)
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.supxlabel(" · ".join(["a part of the caption"] * 6))
    assert plot.stack(figure)
    assert ax.get_legend() is None
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [container.get_label() for container in drawn]
    assert sum(line.get_marker() == "o" for line in legend.findobj(Line2D)) == len(drawn)
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {90}
    figure.draw_without_rendering()
    width = figure.get_window_extent().width
    for artist in (legend, figure._supxlabel):
        box = artist.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width


def test_words_in_place_of_a_figure_stay_as_they_are():
    figure = plot.not_yet(Figure(layout="constrained"), frame(("original", *ROBUST, None, 0)))
    assert not plot.stack(figure)
    assert figure.get_figwidth() == 7.2


def test_pictures_stay_side_by_side():
    figure = Figure()
    for ax in figure.subplots(1, 2):
        ax.imshow([[0, 1]])
    assert not plot.stack(figure)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_variants_colours_are_seen_on_white_and_on_black(count):
    """A contrast of 2 at least, as they are on white, and as the dark theme inverts them on black (WCAG 2's formula)."""
    for colour in plot.shades(count):
        for shown in (colour[:3], tuple(1 - channel for channel in colour[:3])):
            linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shown]
            light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
            on = 1.05 / (light + 0.05) if shown == colour[:3] else (light + 0.05) / 0.05
            assert on >= 2, (colour, shown, on)
