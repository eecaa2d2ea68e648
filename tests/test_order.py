"""The order in which tests are given out to processes, and what stays in one of them."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import conftest
import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("start", sorted({*conftest.LONG, *conftest.TOGETHER, conftest.LAST}))
def test_what_is_named_is_there(start):
    file, _, name = start.partition("::")
    assert re.search(rf"^def {name or 'test_'}", (HERE / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_book_is_begun_first_and_its_pages_are_looked_at_last():
    names = ["tests/test_browser.py::test_x[index-light]", "tests/test_data.py::test_x[a/b]", "tests/test_kill.py::test_x"]
    names += ["tests/test_book.py::test_x", "tests/test_workflow.py::test_killed_continued_and_more"]
    assert sorted(names, key=conftest.place_of) == [names[3], names[4], names[2], names[1], names[0]]


def test_what_shares_something_stays_together_and_nothing_else_does():
    pages = [f"tests/test_browser.py::test_{name}[{page}-light]" for name in "ab" for page in ("index", "notebooks/sec3")]
    others = ["tests/test_book.py::test_a", "tests/test_book.py::test_b[x]", "tests/test_data.py::test_a[0]"]
    others += ["tests/test_data.py::test_a[1]", "tests/test_workflow.py::test_a_config_that_is_wrong_is_refused[a=0]"]
    others += ["tests/test_workflow.py::test_a_config_that_is_right_is_not", "tests/test_workflow.py::test_b"]
    scopes = [conftest.scope_of(name) for name in (*pages, *others)]
    assert [scopes.index(scope) for scope in scopes] == [0, 1, 0, 1, 4, 4, 6, 7, 8, 8, 10]


def test_the_book_is_built_once_by_whoever_asks_first(tmp_path):
    built = []

    def ask(_):
        conftest.built_once(tmp_path / "book", lambda: built.append(1) or "")

    with ThreadPoolExecutor(4) as several:
        list(several.map(ask, range(4)))
    assert built == [1]


def test_a_book_that_fails_is_everybody_s_error_and_is_built_once(tmp_path):
    built = []
    for _ in range(2):
        with pytest.raises(AssertionError, match="a warning"):
            conftest.built_once(tmp_path / "book", lambda: built.append(1) or "a warning")
    assert built == [1]


def test_one_process_more_than_processors(monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(3), raising=False)
    assert conftest.pytest_xdist_auto_num_workers() == 4
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    assert conftest.pytest_xdist_auto_num_workers() is None
