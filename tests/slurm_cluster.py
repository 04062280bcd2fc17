"""A Slurm of one controller and one node on this machine while a test runs, all of its files in one folder."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
CPUS = 4  # that Slurm believes in; the machine may have fewer
CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
# a requeued job waits until its credential has expired: 5 seconds are the least
AuthInfo=socket={folder}/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(Exception):
    """Why there is no Slurm here, in words."""


def install():
    """Debian's packages, if they are absent; nothing is configured or started outside of the test's folder."""
    if os.geteuid() != 0:
        raise Unavailable("Slurm's daemons need root")
    if all(map(shutil.which, PROGRAMS)):
        return
    if shutil.which("apt-get") is None:
        raise Unavailable("Slurm is not installed, and there is no apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
    for attempt in (command, ["apt-get", "update"], command):
        if subprocess.run(attempt, env=environment, capture_output=True).returncode == 0 and attempt is command:
            return
    raise Unavailable("apt-get cannot install Slurm")


@contextlib.contextmanager
def cluster(folder: Path):
    """Start the daemons; gives the path of slurm.conf, for SLURM_CONF. Raises Unavailable."""
    for name in ("spool", "state"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    config = folder / "slurm.conf"
    ports = {"controller_port": _free_port(), "node_port": _free_port()}
    config.write_text(CONFIG.format(folder=folder, cpus=CPUS, **ports))
    files = {"socket": "munge.socket", "key-file": key, "pid-file": "munged.pid", "log-file": "munged.log"}
    munged = ["munged", "--force", f"--seed-file={folder}/munged.seed"]
    munged += [f"--{option}={folder / name}" for option, name in files.items()]
    try:
        for command in (munged, ["slurmctld", "-f", config], ["slurmd", "-N", "localhost", "-f", config]):
            started = subprocess.run(command, capture_output=True, text=True)
            if started.returncode:
                raise Unavailable(f"{command[0]} does not start: {started.stderr.strip()}")
        _wait_until_idle(config, folder)
        yield config
    finally:
        files = [folder / f"{name}.pid" for name in ("slurmd", "slurmctld", "munged")]
        _stop([int(file.read_text()) for file in files if file.exists()])


def _wait_until_idle(config, folder):
    environment = {**os.environ, "SLURM_CONF": str(config)}
    for _ in range(100):
        told = subprocess.run(["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True)
        if told.stdout.strip() == "idle":
            return
        time.sleep(0.1)
    raise Unavailable(f"Slurm's node is not idle but {told.stdout.strip()}: {_last_error(folder)}")


def _last_error(folder):
    lines = [line for log in folder.glob("slurm*.log") for line in log.read_text().splitlines() if "error" in line]
    return lines[-1] if lines else "no error in its logs"


def _stop(pids):
    """End daemons; those that do not within ten seconds are killed."""
    alive = [pid for pid in pids if _signal(pid, signal.SIGTERM)]
    for _ in range(100):
        alive = [pid for pid in alive if _signal(pid, 0)]
        if not alive:
            return
        time.sleep(0.1)
    for pid in alive:
        _signal(pid, signal.SIGKILL)


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
