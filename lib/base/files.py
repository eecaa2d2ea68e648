"""Files that several processes share: locks, and writing a file whole or not at all."""

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]


def checkpoints() -> Path:
    """The folder of the checkpoints: `CHECKPOINT_DIR`, relative to the repository, or `checkpoints/`."""
    return ROOT / Path(os.environ.get("CHECKPOINT_DIR") or "checkpoints").expanduser()


@contextmanager
def locked(file: Path, timeout: float = -1) -> Iterator[None]:
    """A block that only one process enters at a time, by a lock on `file`; the system frees the lock of a process that ends.

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
    """Write `file` atomically: at any time it is the earlier file or the whole new one. OSError if it cannot be written."""
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


def cache_path(kind: str, maker: str, source: bytes | memoryview) -> Path:
    """The path of a file that is computed from `source`, under `CHECKPOINT_DIR`: its name is a digest of `maker` and `source`.

    `maker` says what computes the file, with the versions and settings that decide its content.
    """
    digest = hashlib.sha256(maker.encode())
    digest.update(source)
    return checkpoints() / kind / digest.hexdigest()[:32]


def cached(file: Path, compute: Callable[[], bytes]) -> bytes:
    """The result of `compute`, read from `file` if it is there, else computed and written to it.

    The file is a sha256 of the content, then the content. If the two do not agree, the content is computed again. If the file
    cannot be written, nothing is kept.
    """
    with suppress(OSError):
        digest, content = (stored := file.read_bytes())[:32], stored[32:]
        if hashlib.sha256(content).digest() == digest:
            return content
    content = compute()
    with suppress(OSError):
        for leftover in file.parent.glob(f".{file.name}.*"):  # left by a process that was killed long ago while it wrote
            if time.time() - leftover.stat().st_mtime > 3600:
                leftover.unlink()
        write_whole(file, hashlib.sha256(content).digest() + content)
    return content
