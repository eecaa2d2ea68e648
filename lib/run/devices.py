"""Chooses the device to compute on: a GPU or the processor."""

import ctypes
import re

import torch


def device(name: str = "auto") -> torch.device:
    """`auto`: the GPU where there is one, else the CPU; or `cpu`, `cuda`, `cuda:N`.

    On a GPU float32 is float32 (no TF32) and algorithms are deterministic; a processor keeps freed memory. ValueError for
    any other name or a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", name):
        raise ValueError(f"unknown device {name!r}; allowed: auto, cpu, cuda, cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} does not exist; this machine has {torch.cuda.device_count()} CUDA devices")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    _keep_freed_memory()
    return torch.device(name)


def _keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones, instead of giving it back to the system.

    A step of the attack allocates the same few megabytes again and again; page faults were a quarter of its time. The
    numbers are glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD; other C libraries have no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(-1, 2**30)
    mallopt(-3, 2**25)
