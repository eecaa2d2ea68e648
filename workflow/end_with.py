"""Runs a command and ends it when Snakemake ends: otherwise a killed Snakemake would leave its jobs running without its lock.

python workflow/end_with.py COMMAND …    # ENGINE=HOST:PID names the process, as the Snakefile sets it

Within a job of Slurm, or on another host, where the engine is none of its own processes, the command runs as it is.
"""

import os
import socket
import subprocess
import sys
import time

SECONDS = 0.5  # between two looks
GRACE = 10.0  # for the command to end by itself


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(command: list[str]) -> int:
    """The command's exit status; 143 where the engine ended first."""
    host, _, pid = os.environ.get("ENGINE", "").rpartition(":")
    if not pid.isdigit() or host != socket.gethostname() or "SLURM_JOB_ID" in os.environ:
        os.execvp(command[0], command)
    with subprocess.Popen(command) as process:
        while True:
            try:
                status = process.wait(SECONDS)
                return status if status >= 0 else 128 - status
            except subprocess.TimeoutExpired:
                if _alive(int(pid)):
                    continue
            except KeyboardInterrupt:  # the command has got it too
                continue
            process.terminate()
            deadline = time.monotonic() + GRACE
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            process.kill()
            return 143


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("error: usage: end_with.py COMMAND …")
    sys.exit(main(sys.argv[1:]))
