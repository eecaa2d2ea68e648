"""The grid on a real Slurm of one node with fake GPUs, started here from Debian's packages. `pytest -m slurm`, as root.

Slurm knows its configuration by one path alone within a job, so this test needs /etc/slurm for itself: where a slurm.conf
lies there already it skips, and at the end it leaves none.
"""

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.store import grid
from tests.test_workflow import Checkout, only, records_of

pytestmark = pytest.mark.slurm

ETC = Path("/etc/slurm")
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
# Neither control groups nor accounting, which a container has not; a node that is believed to have what is said of it; two GPUs
# that are /dev/null by another name.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmdPort={slurmd_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
MinJobAge=600
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=localhost CPUs=2 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=NO State=UP
"""
GRES_CONF = """\
AutoDetect=off
NodeName=localhost Name=gpu Flags=nvidia_gpu_env File={folder}/gpu[0-1]
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture
def slurm(tmp_path) -> Iterator[Path]:
    """Slurm's folder; its daemons run until the test ends."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        pytest.skip(f"needs Slurm and munge (apt-get install slurm-wlm munge); {', '.join(absent)} not found")
    if os.geteuid() != 0:
        pytest.skip("needs root, to start Slurm's daemons")
    if (ETC / "slurm.conf").exists():
        pytest.skip(f"{ETC}/slurm.conf exists: there is a Slurm here already, which this test must not touch")
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    for i in range(2):
        os.mknod(folder / f"gpu{i}", 0o20666, os.makedev(1, 3))
    chosen = {"folder": folder, "user": getpass.getuser(), "port": _free_port(), "slurmd_port": _free_port()}
    (folder / "munge.key").write_bytes(os.urandom(64))
    (folder / "munge.key").chmod(0o600)
    own = [f"--{name}={folder}/munge.{end}" for name, end in (("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"))]
    own += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    daemons = []
    try:
        for name, text in (("slurm.conf", SLURM_CONF), ("gres.conf", GRES_CONF)):
            (ETC / name).write_text(text.format(**chosen))
        for command in (["munged", "--foreground", "--force", *own], ["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]):
            # Their own session: what the test kills, and what kills the test, does not reach them.
            daemons.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            )
            time.sleep(1)
        _wait(lambda: "idle" in _said("sinfo", "--noheader", "--format=%t"), "the node is idle")
        yield folder
    finally:
        _said("scancel", "--user", getpass.getuser(), "--signal=KILL")
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def _wait(condition, what: str, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s in vain until {what}"
        time.sleep(0.2)


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    made = Checkout(tmp_path / "checkout")
    # What a job sees of the node's GPUs, noted by the command that every run's job begins with.
    made.change(
        "workflow/on_gpu.py",
        '    gpus = [] if "SLURM_JOB_ID"',
        '    print("sees", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)\n    gpus = [] if "SLURM_JOB_ID"',
    )
    return made


EXHIBITS = ("table-2", "footprint-volumes")
ON_SLURM = [
    *("--workflow-profile", "workflow/profiles/slurm", "--group-components", "short=2", "--latency-wait", "10"),
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2", "--slurm-keep-successful-logs"),
    *("--default-resources", "slurm_partition=main"),
]


def test_the_smoke_grid_with_a_job_killed_and_resumed(slurm, checkout):
    """Table 2 and the volumes at smoke; one job's process is killed midway, then the grid is asked for again."""
    asked = [name.replace("device=cpu", "device=auto") for name in only(*EXHIBITS)]
    everything = records_of(*(item.key for name in EXHIBITS for item in grid.runs(name, "smoke")))
    with checkout.start(*asked, *ON_SLURM) as process:
        running = checkout.folder / "checkpoints"
        _wait(lambda: process.poll() is not None or any(running.rglob("lock")), "a run is in hand")
        assert process.poll() is None, process.stdout.read()
        (victim, *_) = _said("squeue", "--noheader", "--states=R", "--format=%i").split()
        subprocess.run(["scancel", "--signal=KILL", "--full", victim], check=True)
        log, _ = process.communicate()
    print(log)
    assert process.returncode != 0, "one job was killed"
    assert f"/{victim}.log (check log file(s) for error details)" in log
    before = checkout.records()
    assert set(before) < everything

    status, log = checkout.run(*asked, *ON_SLURM)
    print(log)
    assert status == 0
    after = checkout.records()
    assert set(after) == everything
    assert before == {name: when for name, when in after.items() if name in before}
    logs = "\n".join(path.read_text() for path in (checkout.folder / ".snakemake" / "slurm_logs").rglob("*.log"))
    assert set(re.findall(r"^sees (.*)$", logs, re.MULTILINE)) == {"0", "1"}
    print((slurm / "slurmctld.log").read_text())
