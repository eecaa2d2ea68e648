"""Gives a command one GPU of this machine, or a share of one, and waits for it if need be.

python workflow/on_gpu.py 4 COMMAND …    # at most four such commands a GPU; 1: the GPU for itself

The command sees its own GPU only, through CUDA_VISIBLE_DEVICES. Slots are file locks, which the command inherits and the
system frees when it ends, however it ends. Within a job of Slurm, which has chosen a GPU already, and where there is no GPU,
the command runs as it is.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 1.0  # between two looks at the slots


def visible() -> list[str]:
    """The GPUs that this process may use: those in CUDA_VISIBLE_DEVICES, else all that nvidia-smi knows, by their UUIDs."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip() not in ("", "-1")]
    try:
        command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return found.stdout.split()


def _locked(path: Path, how: int) -> int | None:
    """A descriptor that holds the lock, and that children inherit; None where another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.set_inheritable(descriptor, True)
    return descriptor


def taken(gpus: list[str], share: int, folder: Path) -> str | None:
    """A GPU with a free slot, now this process's, or None. Emptier GPUs come first.

    A GPU is locked as a whole by a command that wants it for itself, and shared by those that want a slot of it.
    """
    for slot in range(share):
        for gpu in gpus:
            whole = _locked(folder / gpu, fcntl.LOCK_EX if share == 1 else fcntl.LOCK_SH)
            if whole is None:
                continue
            if share == 1 or _locked(folder / f"{gpu}.{slot}", fcntl.LOCK_EX) is not None:
                return gpu
            os.close(whole)
    return None


def main(share: int, command: list[str]) -> None:
    """Become the command, once there is a slot for it."""
    gpus = [] if "SLURM_JOB_ID" in os.environ else visible()
    if gpus:
        folder = Path(tempfile.gettempdir()) / f"gpu-slots-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        while (gpu := taken(gpus, share, folder)) is None:
            time.sleep(SECONDS)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.execvp(command[0], command)


if __name__ == "__main__":
    if len(sys.argv) < 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
        sys.exit("error: usage: on_gpu.py RUNS_PER_GPU COMMAND …, with RUNS_PER_GPU ≥ 1")
    main(int(sys.argv[1]), sys.argv[2:])
