"""A SLURM of one machine, as Debian's packages slurm-wlm and munge have it, for the tests."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue")
# Requeued jobs are held back for as long as credentials last, two minutes unless one says so.
CONFIG = """
ClusterName=tests
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=15
CryptoType=crypto/munge
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MpiDefault=none
SchedulerParameters=sched_interval=2,batch_sched_delay=1
SchedulerTimeSlice=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
JobRequeue=0
NodeName={host} NodeHostname={host} CPUs={cores} Sockets=1 CoresPerSocket={cores} RealMemory={memory} State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10
"""


def missing() -> str | None:
    """Why SLURM cannot be started here; None if it can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "SLURM's daemons are started as root"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


@contextmanager
def slurm(folder: Path, cores: int = 2, memory: int = 8000) -> Iterator[None]:
    """Start SLURM with its files in a folder; SLURM_CONF leads to it."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    ports = {"port": _free_port(), "node_port": _free_port()}
    config, key = folder / "slurm.conf", folder / "munge.key"
    host = socket.gethostname()
    config.write_text(CONFIG.format(host=host, folder=folder, cores=cores, memory=memory, **ports))
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    os.environ["SLURM_CONF"] = str(config)
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}"]
    munge += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    commands = [munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]]
    daemons = []
    try:
        for command in commands:
            log = (folder / f"{command[0]}.out").open("wb")
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
            time.sleep(1.0)
        _wait_until_idle(folder)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(20)
        del os.environ["SLURM_CONF"]


def _wait_until_idle(folder: Path) -> None:
    deadline = time.monotonic() + 40
    while True:
        done = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False)
        if "idle" in done.stdout:
            return
        logs = "\n".join(path.read_text()[-1500:] for path in folder.glob("*.log"))
        assert time.monotonic() < deadline, f"{done.stdout}{done.stderr}\n{logs}"
        time.sleep(0.5)
