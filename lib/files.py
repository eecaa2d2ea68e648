"""Files that several processes share: one process at a time, and whole or not there."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def write_whole(file: Path, content: bytes) -> None:
    """Write `file` atomically: whatever happens, it is the earlier one or the whole new one. OSError where neither can be."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
