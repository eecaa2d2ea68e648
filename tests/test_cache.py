"""numba's cache: what is damaged is compiled anew, and where there can be none the numbers are the same."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killing import popen

from lib.base import files
from lib.fast import cache

ROOT = Path(__file__).resolve().parents[1]
# Says what the kernel gives, and how many of its functions came from the cache.
PASS = """
loaded = []
load = IndexDataCacheFile.load
IndexDataCacheFile.load = lambda self, key: loaded.append(load(self, key)) or loaded[-1]
x = torch.arange(64.0).view(1, 4, 4, 4) - 32
print(kernels.add_affine_relu(x, None, torch.ones(4), torch.zeros(4))[1].sum().item(), sum(each is not None for each in loaded))
"""
# One process that has imported everything and compiled nothing, and a fork of it for each environment that it is told.
FORKS = """
import json, os, sys
import torch
from numba.core.caching import IndexDataCacheFile
from lib.fast import cache, kernels
assert cache.folder.cache_info().currsize == 0
for line in sys.stdin:
    if os.fork() == 0:
        os.environ.clear()
        os.environ.update(json.loads(line))
        exec(sys.argv[1])
        sys.stdout.flush()
        os._exit(0)
    print("status", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Callable[..., str]]:
    """What a process in such an environment says."""
    own = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    own |= {"PYTHONPATH": str(ROOT)}
    errors = tmp_path_factory.mktemp("forks") / "stderr"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        errors.open("w") as stderr,
        popen([sys.executable, "-c", FORKS, PASS], env=own, cwd="/", stderr=stderr, **pipes) as forks,
    ):

        def run(**environment: str) -> str:
            forks.stdin.write(json.dumps({**own, **environment}) + "\n")
            forks.stdin.flush()
            said = forks.stdout.readline()
            assert forks.stdout.readline() == "status 0\n", errors.read_text()
            return said.strip()

        yield run


@pytest.fixture(scope="module")
def compiled(tmp_path_factory, run) -> Path:
    """A cache with the kernel's functions, compiled once."""
    folder = tmp_path_factory.mktemp("compiled")
    assert run(NUMBA_CACHE_DIR=str(folder)) == "496.0 0"
    assert run(NUMBA_CACHE_DIR=str(folder)) == "496.0 4"
    return folder


@pytest.fixture
def kept(compiled, tmp_path) -> Path:
    """A copy of it, which a test may damage: a cache is good wherever it lies."""
    return Path(shutil.copytree(compiled, tmp_path / "cache"))


@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "a flipped bit"])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_cache_is_compiled_anew(run, kept, suffix, damage):
    for file in kept.rglob(f"*.{suffix}"):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    assert run(NUMBA_CACHE_DIR=str(kept)) == "496.0 0"
    assert run(NUMBA_CACHE_DIR=str(kept)) == "496.0 4"


@pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_without_a_folder_that_can_be_written_nothing_is_kept(run, tmp_path, variable):
    (tmp_path / "file").write_text("root could write to a folder that is read-only")
    assert run(**{variable: str(tmp_path / "file" / "folder")}) == "496.0 0"


def test_one_process_compiles_at_a_time(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "SECONDS", 0.1)
    cache.folder.cache_clear()
    with cache.cached() as keep:
        assert keep
    with files.locked(cache.folder() / "lock"), cache.cached() as keep:
        assert not keep
    cache.folder.cache_clear()


def test_another_source_is_compiled_anew(monkeypatch, tmp_path):
    """numba looks at the file of the compiled function alone; what that calls lies in others."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "vectors.py").write_text("LANES = 8")
    monkeypatch.setattr(cache, "SOURCES", sources)
    folders = []
    for lanes in (8, 8, 16):
        (sources / "vectors.py").write_text(f"LANES = {lanes}")
        cache.folder.cache_clear()
        folders.append(cache.folder())
    cache.folder.cache_clear()
    assert folders[0] == folders[1] != folders[2]


def test_any_decorator_of_numbas(monkeypatch, tmp_path):
    from numba import njit, types

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    cache.folder.cache_clear()

    def twice(x):
        return 2 * x

    assert cache.function(njit, types.int64(types.int64))(twice)(21) == 42
    assert list(tmp_path.rglob("*.nbi"))
    cache.folder.cache_clear()
