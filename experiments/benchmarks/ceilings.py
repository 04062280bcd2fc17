"""What the machine can do at most, measured like any other side: a large matrix product and a large copy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vgg_jax.compilation import compiler_options


def matrix_product(dtype: str) -> tuple[Callable[[], object], float]:
    """A product of two square matrices, and its floating-point operations."""
    size = 3072 if jax.default_backend() == "cpu" else 16384
    a, b = (jax.random.normal(jax.random.key(i), (size, size), dtype) for i in range(2))
    product = jax.jit(jnp.matmul, compiler_options=compiler_options())
    return lambda: product(a, b).block_until_ready(), 2.0 * size**3


def copy() -> tuple[Callable[[], object], float]:
    """A large array in place with a changed sign, or it would be no copy, and the bytes that it reads and writes.

    In place, because a CPU's time for new memory is mostly that of the system, which hands it out page by page.
    """
    array = jnp.zeros(2**26 if jax.default_backend() == "cpu" else 2**30, jnp.float32)
    negative = jax.jit(jnp.negative, donate_argnums=0)

    def side() -> None:
        nonlocal array
        array = negative(array).block_until_ready()

    return side, 2.0 * array.nbytes
