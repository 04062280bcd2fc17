"""The flags of train.py that watch over numbers."""

import os

import jax
from absl import flags

from vgg_jax.errors import InputError

DEBUG_NANS = flags.DEFINE_bool(
    "debug_nans",
    False,
    "End at the first value that is not finite, with the operation that made it (jax_debug_nans). One device, slower.",
)
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "On GPUs every run gives the same bits, at a cost in speed: sets xla_gpu_deterministic_ops, which XLA reads when "
    "it first looks for GPUs; it forbids sums whose order varies, and autotuning, which may choose another algorithm "
    "in each run. No effect on CPUs, where runs give the same bits anyway.",
)


def set_numerics() -> None:
    """Do what the flags say; to be called before jax looks for devices."""
    if DETERMINISTIC.value:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    if DEBUG_NANS.value:
        if flags.FLAGS.distributed != "none":
            raise InputError(f"--debug_nans works in one process, not with --distributed={flags.FLAGS.distributed}")
        jax.config.update("jax_debug_nans", True)
        jax.config.update("jax_debug_infs", True)
