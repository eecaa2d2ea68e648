"""Declarations of exhibits, and pages: what is read, once, and what a page refuses."""

import pandas as pd
import pytest
from frames import ROBUST, frame
from matplotlib.figure import Figure

from lib import report
from lib.report import exhibit
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
