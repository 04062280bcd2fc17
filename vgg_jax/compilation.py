"""Compilation: options of the CPU backend, the persistent cache of programs, and a count of what was compiled."""

import contextlib
import functools
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import filelock
import jax
from jax import lax

from vgg_jax.errors import InputError

logger = logging.getLogger(__name__)

# XLA's YNNPACK computes the kernel gradient of a convolution as a convolution with an image-sized window, several times
# slower than XLA's own code for it; fc6 as a 7x7 convolution suffers too. This keeps convolutions out of its hands.
_OWN_CONVOLUTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
# YNNPACK's reductions make the training step of a narrow net 5% faster; but where the mean of a small map follows fc8,
# they take in fc6 to fc8 as one slow kernel.
_REDUCTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
# XLA's CPU backend removes barriers before it merges equal operations and orders them: what was to be computed again
# is kept, and the micro-batches of a step all run at once, in as much memory as one of them all.
_HELD_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}

_WORTH_KEEPING = 0.1  # seconds of a compilation; jax's 1 s leaves out much of what a start waits for
_MOST_BYTES = 4 * 2**30  # then the least recently used go
_COMPILED = "/jax/core/compile/backend_compile_duration"  # jax reports it also where the cache served
_SERVED = "/jax/compilation_cache/cache_hits"


def quick_compiler_options() -> dict[str, int]:
    """Options for what runs once, as drawing the params: the same bits, compiled in a fifth of the time on the CPU."""
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}


@functools.cache
def compiler_options() -> dict[str, str]:
    """Options for ``jax.jit(f, compiler_options=...)`` on the default backend, for top-level jits only.

    They are refused inside another jit; empty where they do not apply.
    """
    return _where_known(_OWN_CONVOLUTIONS)


@functools.cache
def training_options() -> dict[str, str]:
    """`compiler_options`, for programs with a backward pass."""
    return _where_known(_REDUCTIONS)


@functools.cache
def barrier_options() -> dict[str, str]:
    """Further options with which optimisation barriers hold on the CPU too: less memory, in more time.

    Empty where they hold anyway, or cannot.
    """
    return _where_known(_HELD_BARRIERS)


def _where_known(options: dict[str, str]) -> dict[str, str]:
    """The options, if the default backend is a CPU whose XLA knows them; else none."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: lax.optimization_barrier(x + 1), compiler_options=options)(0.0)
    except Exception:  # an XLA that does not know an option says so in ways that change between versions
        return {}
    return options


def use_persistent_cache(directory: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep compiled programs in a folder, so that the next process need not compile them again; returns the folder.

    directory: None for vgg_jax/xla in the user's cache folder (XDG_CACHE_HOME, ~/.cache), but where jax has been told
        of a folder (JAX_COMPILATION_CACHE_DIR) that one, as it is.
    What is read from it is executed: keep it to yourself. To be called before the first compilation. Raises InputError
    for a given folder that cannot be written; in the default place that is only warned of.
    """
    told = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if directory is None and told:
        return Path(told)
    try:
        folder = Path(directory or _user_cache() / "vgg_jax" / "xla").expanduser().absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_torn(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        if directory:
            raise InputError(f"compiled programs cannot be kept in {directory}: {error}; name another folder") from None
        logger.warning("compiled programs are not kept: %s", error)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)  # which also makes jax lock the folder
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    return folder


def _user_cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else Path.home() / ".cache"


def _remove_torn(folder: Path) -> None:
    """Remove what a process was writing when it was killed: jax writes a program and then when it was used.

    It would not replace the program, warn of it in each run, and, for want of the second file, keep no other one.
    """
    with filelock.FileLock(folder / ".lockfile", timeout=10):  # jax's own lock
        for program in folder.glob("*-cache"):
            if not program.with_name(f"{program.name.removesuffix('-cache')}-atime").exists():
                program.unlink()


class Compilations(NamedTuple):
    """What was compiled, by the name of the function, and what the persistent cache gave instead; seconds of both."""

    compiled: Counter[str]
    served: Counter[str]
    seconds: list[float]

    def __str__(self) -> str:
        counts = f"{self.compiled.total()} programs compiled, {self.served.total()} from the cache"
        return f"{counts}, in {sum(self.seconds):.1f} s"


@contextlib.contextmanager
def counted_compilations() -> Iterator[Compilations]:
    """Count every program of this process that is compiled, or read from the persistent cache, meanwhile."""
    counted = Compilations(Counter(), Counter(), [])
    served = False

    def on_event(event: str, **_: str | int) -> None:
        nonlocal served
        served = served or event == _SERVED

    def on_duration(event: str, duration_secs: float, **kwargs: str | int) -> None:
        nonlocal served
        if event == _COMPILED:
            (counted.served if served else counted.compiled)[str(kwargs.get("fun_name"))] += 1
            counted.seconds.append(duration_secs)
            served = False

    jax.monitoring.register_event_listener(on_event)
    jax.monitoring.register_event_duration_secs_listener(on_duration)
    try:
        yield counted
    finally:
        jax.monitoring.unregister_event_listener(on_event)
        jax.monitoring.unregister_event_duration_listener(on_duration)
