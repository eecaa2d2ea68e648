"""The folder in which numba keeps compiled code: files are written whole, by one process at a time; without a folder, none.

@cache.function(cfunc, signature)     # numba's own decorator, with cache=True where a cache is to be had
"""

import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import Timeout

from lib.base import files

SOURCES = Path(__file__).parent
SECONDS = 120.0  # that a process waits for another one's compilation before it compiles for itself


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for file in sorted(SOURCES.glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def folder() -> Path | None:
    """`NUMBA_CACHE_DIR`, or a folder of this user's, where it can be written; else None: nothing is kept then.

    In it a folder for the sources as they are: numba looks at the file of the function that is compiled, not at the files of
    those that this one calls.
    """
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    try:
        directory = Path(base) if base else Path.home() / ".cache"
        directory = directory if os.environ.get("NUMBA_CACHE_DIR") else directory / "robustness-sensitivity-book" / "numba"
        directory /= _digest_of_sources()
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    return directory


def _digests(directory: Path) -> dict[Path, bytes]:
    return {file: hashlib.sha256(file.read_bytes()).digest() for file in sorted(directory.rglob("*.nb[ic]"))}


def _digest_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _drop_damaged(directory: Path) -> None:
    """Delete every file that is not what was written: its digest stands beside it. numba compiles what is not there."""
    for file in directory.rglob("*.nb[ic]"):
        with suppress(OSError):
            digest = _digest_file(file)
            if not digest.is_file() or digest.read_bytes() != hashlib.sha256(file.read_bytes()).digest():
                file.unlink()


def _seal(directory: Path) -> None:
    for file, digest in _digests(directory).items():
        if not _digest_file(file).is_file() or _digest_file(file).read_bytes() != digest:
            _digest_file(file).write_bytes(digest)


@contextmanager
def cached() -> Iterator[bool]:
    """Whether to compile with `cache=True` inside the block; one process of this machine is in it at a time.

    What is damaged in the cache is deleted before, so that numba compiles it anew. False where the folder cannot be written
    or another process holds it for too long. Compile inside the block: a dispatcher that compiles later does so unlocked.
    """
    directory = folder()
    with ExitStack() as stack:
        locked = False
        if directory is not None:
            with suppress(OSError, Timeout):
                stack.enter_context(files.locked(directory / "lock", SECONDS))
                locked = True
        if not locked:
            yield False
            return
        config = sys.modules["numba.core.config"] if "numba.core.config" in sys.modules else _numba_config()
        before, config.CACHE_DIR = config.CACHE_DIR, str(directory)
        _drop_damaged(directory)
        try:
            yield True
        finally:
            config.CACHE_DIR = before
            with suppress(OSError):
                _seal(directory)


def _numba_config():
    from numba.core import config

    return config


def function(make: Callable[..., Callable], *arguments: object) -> Callable[[Callable], object]:
    """`make(*arguments, cache=…)`, numba's `cfunc` or `njit` with its signatures, of a function; compiled at once.

    With the cache where there is one that can be trusted, else without.
    """

    def decorate(python: Callable) -> object:
        with cached() as keep:
            if keep:
                with suppress(OSError, EOFError, pickle.UnpicklingError, RuntimeError):
                    return make(*arguments, cache=True)(python)
            return make(*arguments, cache=False)(python)

    return decorate
