"""What a training needs before it runs: operations, bytes of its compiled step, and what the device has."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vgg_jax.architectures import FC_LAYERS, blocks_of
from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.processes import least
from vgg_jax.training.state import multiply_adds_of

_MEMINFO = Path("/proc/meminfo")
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Memory(NamedTuple):
    """Bytes on each device while a compiled step runs.

    state: params, velocity and the batch that go in. results: what comes out in places of its own: all of the new
    state, where the old one is kept. temporaries: activations and gradients. ahead: the next batch, already sent.
    """

    state: int
    results: int
    temporaries: int
    ahead: int

    @property
    def peak(self) -> int:
        """All of it."""
        return sum(self)


def step_memory(compiled: Any, batch_bytes: int) -> Memory:
    """The memory of a compiled step, as its compiler laid it out; batch_bytes: of a device's share of a batch."""
    found = compiled.memory_analysis()
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(found.argument_size_in_bytes, results, found.temp_size_in_bytes, batch_bytes)


def device_memory() -> int | None:
    """Bytes that any device may use, the least of all processes, so that all decide alike; None where not known.

    Of a GPU what jax may take of it; CPU devices share the memory and swap that are free now, or a container's limit.
    To be called by all processes together.
    """
    return least(_memory_here())


def _memory_here() -> int | None:
    if jax.default_backend() != "cpu":
        stats = jax.local_devices()[0].memory_stats() or {}
        return stats.get("bytes_limit")
    try:
        fields = dict(re.findall(r"(\w+):\s+(\d+) kB", _MEMINFO.read_text()))
        free = 1024 * (int(fields["MemAvailable"]) + int(fields["SwapFree"]))
    except (OSError, KeyError):
        return None
    limit = _CONTAINER_LIMIT.read_text().strip() if _CONTAINER_LIMIT.exists() else "max"
    return (free if limit == "max" else min(free, int(limit))) // jax.local_device_count()


def check_fits(stage: str, config: Any, memory: Memory, available: int | None) -> None:
    """Raise InputError where a step needs more than a device has; what is not known is taken to fit."""
    if available is None or memory.peak <= available:
        return
    train = config.train
    changes = [f"raise train.micro_batches (now {train.micro_batches})", f"lower train.batch_size ({train.batch_size})"]
    changes += [] if train.remat else ["set train.remat=True"]
    changes += [] if config.model.dtype == "bfloat16" else ["set model.dtype=bfloat16"]
    needed, inside, there = map(gigabytes, (memory.peak, memory.temporaries, available))
    raise InputError(
        f"stages.{stage}: a training step needs {needed} on each device, {inside} of it for activations and gradients, "
        f"but {there} are there: {', or '.join(changes)}"
    )


def step_operations(model: VGG, batch_size: int, *, trained: str = "all", remat: bool = False) -> float:
    """Floating-point operations of a step on a batch, two a multiplication.

    The backward pass of a layer that learns costs twice its forward pass; remat adds the first block's forward pass.
    """
    every, first = multiply_adds_of(model), [layer.name for layer in blocks_of(model.arch)[0]]
    learning = every if trained == "all" else {name: every[name] for name in FC_LAYERS}
    again = sum(every[name] for name in first) if remat and trained == "all" else 0
    return 2.0 * batch_size * (sum(every.values()) + 2 * sum(learning.values()) + again)


def gigabytes(count: float) -> str:
    """Bytes in words, in powers of ten."""
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"
