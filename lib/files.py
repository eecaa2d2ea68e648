"""Files that several processes share: locks, and writing a file whole or not at all."""

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]


def checkpoints() -> Path:
    """Where checkpoints lie: `CHECKPOINT_DIR`, relative to the repository, or `checkpoints/`."""
    return ROOT / Path(os.environ.get("CHECKPOINT_DIR") or "checkpoints").expanduser()


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


def place(kind: str, about: str, source: bytes | memoryview) -> Path:
    """Where what is made of `source` is kept: under `CHECKPOINT_DIR`, named by it and by what makes it, `about`."""
    digest = hashlib.sha256(about.encode())
    digest.update(source)
    return checkpoints() / kind / digest.hexdigest()[:32]


def kept(file: Path, compute: Callable[[], bytes]) -> bytes:
    """What `compute` gives, looked up in `file`, or computed and kept there.

    The file is a sha256 of the content, then the content; one that does not agree with itself is computed again. Where it
    cannot be written nothing is kept.
    """
    with suppress(OSError):
        digest, content = (whole := file.read_bytes())[:32], whole[32:]
        if hashlib.sha256(content).digest() == digest:
            return content
    content = compute()
    with suppress(OSError):
        for left in file.parent.glob(f".{file.name}.*"):  # what a killed process was writing, long ago
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()
        write_whole(file, hashlib.sha256(content).digest() + content)
    return content
