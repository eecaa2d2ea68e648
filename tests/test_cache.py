"""numba's cache: what is damaged is compiled anew, and where there can be none the numbers are the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.base import files
from lib.fast import cache

ROOT = Path(__file__).resolve().parents[1]
# Says what the kernel gives, and how many of its functions came from the cache.
PASS = """
import torch
from numba.core.caching import CompileResultCacheImpl, IndexDataCacheFile
from lib.fast import kernels
loaded = []
load = IndexDataCacheFile.load
IndexDataCacheFile.load = lambda self, key: loaded.append(load(self, key)) or loaded[-1]
x = torch.arange(64.0).view(1, 4, 4, 4) - 32
print(kernels.add_affine_relu(x, None, torch.ones(4), torch.zeros(4))[1].sum().item(), sum(each is not None for each in loaded))
"""


def _run(**environment: str) -> str:
    own = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    own |= {"PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", PASS], env=own, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """A cache with the kernel's functions, compiled once."""
    folder = tmp_path_factory.mktemp("compiled")
    assert _run(NUMBA_CACHE_DIR=str(folder)) == "496.0 0"
    assert _run(NUMBA_CACHE_DIR=str(folder)) == "496.0 4"
    return folder


@pytest.fixture
def kept(compiled, tmp_path) -> Path:
    """A copy of it, which a test may damage: a cache is good wherever it lies."""
    return Path(shutil.copytree(compiled, tmp_path / "cache"))


@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "a flipped bit"])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_cache_is_compiled_anew(kept, suffix, damage):
    for file in kept.rglob(f"*.{suffix}"):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    assert _run(NUMBA_CACHE_DIR=str(kept)) == "496.0 0"
    assert _run(NUMBA_CACHE_DIR=str(kept)) == "496.0 4"


@pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
def test_without_a_folder_that_can_be_written_nothing_is_kept(tmp_path, variable):
    (tmp_path / "file").write_text("root could write to a folder that is read-only")
    assert _run(**{variable: str(tmp_path / "file" / "folder")}) == "496.0 0"


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
