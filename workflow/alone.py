"""Runs a command while it holds a lock on a file, so that no two run at once: Snakemake, for `make reproduce`.

python workflow/alone.py FILE COMMAND …

The lock is the command's own, and the system frees it when the command ends, however it ends; the command's jobs have no part
in it. Where the file cannot be locked, the command does not run.
"""

import fcntl
import os
import sys


def main(file: str, command: list[str]) -> None:
    """Become the command. SystemExit, of one line, where another process holds the lock, or where there can be none."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("error: another make reproduce is at work here")
    except OSError as error:
        sys.exit(f"error: cannot lock {file}: {error.strerror}")
    os.set_inheritable(descriptor, True)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"error: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("error: usage: alone.py FILE COMMAND …")
    main(sys.argv[1], sys.argv[2:])
