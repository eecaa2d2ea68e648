"""The folder in which numba keeps compiled code: files are written whole, by one process at a time; without a folder, none.

@compiled.function(cfunc, signature)     # numba's own decorator, with cache=True where a cache is to be had
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

from lib import files

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
        place = Path(base) if base else Path.home() / ".cache"
        place = place if os.environ.get("NUMBA_CACHE_DIR") else place / "robustness-sensitivity-book" / "numba"
        place /= _digest_of_sources()
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    return place


def _digests(place: Path) -> dict[Path, bytes]:
    return {file: hashlib.sha256(file.read_bytes()).digest() for file in sorted(place.rglob("*.nb[ic]"))}


def _kept(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _drop_damaged(place: Path) -> None:
    """Delete every file that is not what was written: its digest stands beside it. numba compiles what is not there."""
    for file in place.rglob("*.nb[ic]"):
        with suppress(OSError):
            digest = _kept(file)
            if not digest.is_file() or digest.read_bytes() != hashlib.sha256(file.read_bytes()).digest():
                file.unlink()


def _seal(place: Path) -> None:
    for file, digest in _digests(place).items():
        if not _kept(file).is_file() or _kept(file).read_bytes() != digest:
            _kept(file).write_bytes(digest)


@contextmanager
def cached() -> Iterator[bool]:
    """Whether to compile with `cache=True` inside the block, which no other process of this machine is in meanwhile.

    What is damaged in the cache is deleted before, so that numba compiles it anew. False where the folder cannot be written
    or another process holds it for too long. Compile inside the block: a dispatcher that compiles later does so unlocked.
    """
    place = folder()
    with ExitStack() as stack:
        held = False
        if place is not None:
            with suppress(OSError, Timeout):
                stack.enter_context(files.alone(place / "lock", SECONDS))
                held = True
        if not held:
            yield False
            return
        config = sys.modules["numba.core.config"] if "numba.core.config" in sys.modules else _numba_config()
        before, config.CACHE_DIR = config.CACHE_DIR, str(place)
        _drop_damaged(place)
        try:
            yield True
        finally:
            config.CACHE_DIR = before
            with suppress(OSError):
                _seal(place)


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
