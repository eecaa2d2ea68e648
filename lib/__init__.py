"""The thin library under the book: the grid, the data, the attack, the training, the records, the exhibits."""

import atexit
import gc
import os
import signal
import sys
from pathlib import Path

if not (Path(__file__).resolve().parents[1] / "pyproject.toml").is_file():
    raise ImportError(
        "lib was installed without its repository, which holds the records, the notebooks and the book; "
        "clone it and install it with pip install --editable ."
    )

# Importing torch, pandas and matplotlib makes a million objects, and they stay until the end. To look through them for
# garbage after every 700 more, as Python does by default, and once more at exit, takes seconds of a page's ten.
gc.set_threshold(10_000, 10, 10)
atexit.register(gc.freeze)


def _leave(*_) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


# A command's imports take seconds. Without this, an interrupt during them would print a traceback.
_leave.while_importing = True
if sys.orig_argv[1:3] == ["-m", "lib"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
