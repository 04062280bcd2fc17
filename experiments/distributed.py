"""What train.py and evaluate.py share: the flags of several processes, and stopping by a signal."""

import sys

from absl import flags

from vgg_jax import processes, signals
from vgg_jax.errors import InputError

DISTRIBUTED = flags.DEFINE_enum(
    "distributed", "none", processes.MODES, "Several processes work as one: how this one finds the others."
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "With manual: HOST:PORT, which process 0 opens.")
PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "With manual: how many processes there are.", 1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "With manual: the number of this process, from 0.", 0)
LOCAL_DEVICES = flags.DEFINE_list("local_devices", None, "This process's GPUs, as 0,1; on the CPU as many devices.")


def start_processes() -> None:
    """Join the other processes if --distributed says so, in a child whose parent watches; stop on signals."""
    devices = LOCAL_DEVICES.value
    if devices is not None and not all(device.isdecimal() for device in devices):
        raise InputError(f"--local_devices is {','.join(devices)}, but numbers are expected, as 0,1")
    if DISTRIBUTED.value == "none":
        signals.stop_on_signals()
        return
    if not processes.is_watched():
        sys.exit(processes.watch())
    processes.start(
        DISTRIBUTED.value,
        coordinator=COORDINATOR.value,
        process_count=PROCESS_COUNT.value,
        process_id=PROCESS_ID.value,
        local_devices=None if devices is None else [int(device) for device in devices],
    )
