"""Locks between processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def alone(file: Path, timeout: float = -1) -> Iterator[None]:
    """No other process is in such a block of the same file; the system frees the lock of one that ends, however it ends.

    `timeout`: seconds to wait, for ever by default. Raises filelock.Timeout after that, and OSError where the file cannot be
    written or its file system has no locks: a mere file in the place of one would outlive a killed process.
    """
    lock = FileLock(file, timeout=timeout, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if not error.strerror:  # a Timeout, which is an OSError too
            raise
        raise OSError(error.errno, f"cannot lock {file}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()
