"""What every test stands on: folders of its own, no data but the built-in sets, one thread, no network."""

import os
import shutil
import subprocess
import sys
import urllib.error
import warnings
from collections.abc import Callable
from pathlib import Path

import checked  # before anything of lib
import jaxtyping
import pytest
import stored
import torch
import torch.nn.functional as F

from lib import data, models
from lib.base import files

ROOT = Path(__file__).resolve().parents[1]
BOOK_OPTIONS = ["--all", "-W", "--keep-going", "-n"]
_DATA_DIR, _CIFAR10 = os.environ.get("DATA_DIR"), os.environ.get("CIFAR10")

# One thread: the tests' tensors are small, and on a busy machine two threads spend their time waiting for each other.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for subprocesses


# --- which process does what, and when ----------------------------------------------------------------------------------

_OF_THE_BOOK = ("test_book.py", "test_browser.py")
# Tests that share what one of them makes, and so go to one process: all of a file, or those whose names begin so.
TOGETHER = ("test_book.py", "test_payloads.py", "test_cache.py", "test_workflow.py::test_a_config_that_is_")
# What takes longest, named in the same way, goes first: the rest fills what is left of the time. The book is begun at once, and
# its pages, each short, are looked at last, when it is built.
LONG = (
    "test_book.py",
    "test_recompute.py",
    "test_notebooks.py::test_papermill_certifies",
    "test_notebooks.py::test_papermill_trains_and_draws",
    "test_workflow.py::test_killed_continued",
    "test_kill.py::test_",
    "test_notebooks.py::test_papermill",
    "test_weights.py::test_committed_weights_give",
    "test_sensitivity_study.py::test_after_a_kill",
    "test_workflow.py::test_the_paper_grid",
    "test_workflow.py::test_a_config_that_is_",
    "test_cache.py",
)
LAST = "test_browser.py"


def name_of(nodeid: str) -> str:
    """The file and the test, without the folders of the file."""
    file, separator, test = nodeid.partition("::")
    return file.rpartition("/")[2] + separator + test


def place_of(nodeid: str) -> int:
    """Where a test stands in the order in which they are given out."""
    name = name_of(nodeid)
    if name.startswith(LAST):
        return len(LONG) + 1
    return next((place for place, start in enumerate(LONG) if name.startswith(start)), len(LONG))


def scope_of(nodeid: str) -> str:
    """What stays in one process: tests that share what one of them makes, and all that look at one page in one theme."""
    name = name_of(nodeid)
    if name.startswith(LAST):
        return LAST + name.partition("[")[2]
    return next((start for start in TOGETHER if name.startswith(start)), nodeid)


@pytest.hookimpl(trylast=True)  # tests that share a parameter are put side by side before
def pytest_collection_modifyitems(config, items):
    """A test elsewhere that asks for the book might be given out first, and then all wait until it is built."""
    elsewhere = {item.path.name for item in items if "html" in item.fixturenames} - {*_OF_THE_BOOK}
    if elsewhere:
        allowed, given = " and ".join(_OF_THE_BOOK), ", ".join(sorted(elsewhere))
        raise pytest.UsageError(f"only {allowed} may use the fixture html, given {given}")
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)  # where there is no pytest-xdist, there is nobody to call it
def pytest_xdist_make_scheduler(config, log):
    """Each test goes to whichever process is free, and with it those that belong together; in the order above."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return scope_of(nodeid)

    config.option.loadscopereorder = False  # else what has most tests would go first, however short they are
    return Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than there are processors: many tests wait for a process that they have started, or for a browser."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # pytest-xdist's own function reads it
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors + 1


_books: set[str] = set()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """A process has ended, which may have looked at a book."""
    _books.update(filter(None, [getattr(node, "workeroutput", {}).get("book")]))


def pytest_sessionfinish():
    """All processes have ended: nobody looks at the book any more."""
    for book in _books:
        shutil.rmtree(book, ignore_errors=True)


# --- what a test finds --------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """Records and checkpoints go to the test's own folder; real data are out of sight; nothing is downloaded."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.delenv("CIFAR10", raising=False)
    stored.resolve_anew()  # some tests change the grid

    def offline(*_, **__):
        raise urllib.error.URLError("the tests have no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all processes of this session share."""
    own = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each of its workers a folder within the session's.
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture
def smoke_store(monkeypatch, isolated, shared) -> None:
    """Records and checkpoints go to a folder that the tests of this session share: what one trains, the others find there."""
    store = shared / "smoke-store"
    monkeypatch.setenv("RESULTS_DIR", str(store / "results"))
    monkeypatch.setenv("CHECKPOINT_DIR", str(store / "checkpoints"))


@pytest.fixture(scope="session")
def _committed(tmp_path_factory) -> Path:
    """In one place for all tests of a process, so that it parses each record once."""
    store = tmp_path_factory.mktemp("committed")
    for part in ("laptop", "paper", "sensitivity"):
        if (ROOT / "results" / part).exists():
            (store / part).symlink_to(ROOT / "results" / part)
    return store


@pytest.fixture
def committed_records(monkeypatch, isolated, _committed) -> None:
    """The store holds the repository's records of scales laptop and paper, and of studies; not a reader's own, at smoke."""
    monkeypatch.setenv("RESULTS_DIR", str(_committed))


def _folder_of_real_data() -> Path | None:
    folder = ROOT / Path(_DATA_DIR).expanduser() if _DATA_DIR else None
    return folder if folder and (folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte").is_file() else None


@pytest.fixture
def real_data(monkeypatch, isolated) -> Path:
    """The folder of the real sets, MNIST among them, put back into the environment; skips where there is none."""
    folder = _folder_of_real_data()
    if folder is None:
        pytest.skip("needs DATA_DIR, a folder with the real MNIST in torchvision's layout")
    monkeypatch.setenv("DATA_DIR", _DATA_DIR)
    if _CIFAR10:
        monkeypatch.setenv("CIFAR10", _CIFAR10)
    return folder


@pytest.fixture
def real_jpeg(real_data) -> Path:
    """As `real_data`, where it holds cifar10-jpeg too."""
    if not any((real_data / name).exists() for name in ("cifar10-jpeg", "cifar10-jpeg.tar.gz")):
        pytest.skip("needs cifar10-jpeg or cifar10-jpeg.tar.gz under DATA_DIR")
    return real_data


@pytest.fixture
def unchecked():
    """Annotations are not checked at run time, as outside pytest: what is left are the errors of `lib` itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", checked.WrongTypeWarning)
        yield
    jaxtyping.config.update("jaxtyping_disable", False)


def built_once(folder: Path, build: Callable[[], str]) -> None:
    """Build, where no other process that shares `folder` has done so; where one does so just now, wait for it.

    `build` returns what went wrong, which then is every process's error.
    """
    folder.mkdir(exist_ok=True)
    with files.locked(folder / "lock"):
        if not (folder / "wrong").exists():
            (folder / "wrong").write_text(build(), encoding="utf-8")
    wrong = (folder / "wrong").read_text(encoding="utf-8")
    assert not wrong, wrong


@pytest.fixture(scope="session")
def html(request, shared):
    """The folder of the built book. Built from the committed records, whatever the environment says.

    BOOK_DIR names a folder in which it stays; `BOOK_DIR=book` leaves it where `make book` does. BOOK_HTML names a book that is
    built already, such as book/_build/html, to be looked at as it is.
    """
    if built := os.environ.get("BOOK_HTML"):
        assert (ROOT / built / "index.html").is_file(), f"BOOK_HTML={built} holds no book"
        yield (ROOT / built).resolve()
        return
    kept, folder = os.environ.get("BOOK_DIR"), shared / "book"
    target = ROOT / kept if kept else folder

    def build() -> str:
        command = [Path(sys.executable).with_name("jupyter-book"), "build", ROOT / "book", "--path-output", target]
        own = {name: value for name, value in os.environ.items() if name not in ("RESULTS_DIR", "CHECKPOINT_DIR", "CIFAR10")}
        done = subprocess.run([*command, *BOOK_OPTIONS], env=own, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return "" if done.returncode == 0 else f"jupyter-book failed: {done.stdout[-4000:]}{done.stderr[-4000:]}"

    among_others = hasattr(request.config, "workerinput")
    if among_others:
        request.config.workeroutput["book"] = str(folder)  # removed when all have ended
    built_once(folder, build)
    yield target / "_build" / "html"
    if not among_others:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """1000 built-in digits, float32 in [0, 1], and their labels, a hundred of each, shuffled."""
    loaded = data.load("mnist-5000", "test")
    order = torch.randperm(len(loaded), generator=torch.Generator().manual_seed(0))
    return loaded.batch()[order], loaded.labels[order]


@pytest.fixture(scope="session")
def _trained(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.lenet5(0.125)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = digits
    for step in range(40):
        chosen = slice(step * 100 % 800, step * 100 % 800 + 100)
        optimizer.zero_grad()
        F.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return model.eval(), {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture
def trained(_trained):
    """A narrow LeNet5 that reads most digits and has never met an adversary; its last 200 digits are new to it."""
    model, weights = _trained
    yield model
    # Whatever the test did to it, the next one gets it as it was.
    model.float().load_state_dict(weights)
    model.eval().requires_grad_(True).zero_grad(set_to_none=True)
