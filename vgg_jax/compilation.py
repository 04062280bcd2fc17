"""Compiler options of the CPU backend, for top-level jits only (they are refused inside another jit)."""

import functools

import jax

# XLA's YNNPACK computes the kernel gradient of a convolution as a convolution with an image-sized window, several times
# slower than XLA's own code for it; fc6 as a 7x7 convolution suffers too. This keeps convolutions out of its hands.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def quick_compiler_options() -> dict[str, int]:
    """Options for what runs once, as drawing the params: the same bits, compiled in a fifth of the time on the CPU."""
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}


@functools.cache
def compiler_options() -> dict[str, str]:
    """Options for ``jax.jit(f, compiler_options=...)`` on the default backend; empty where they do not apply."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x + 1, compiler_options=_CPU_OPTIONS)(0.0)
    except Exception:  # an XLA that does not know the option says so in ways that change between versions
        return {}
    return dict(_CPU_OPTIONS)
