"""3x3 convolutions in fewer multiplications: Winograd's F(2x2, 3x3), after Lavin and Gray 2015 (arXiv:1509.09308).

A 2x2 tile of the output is A^T [(G g G^T) * (B^T d B)] A of a 4x4 tile d of the input and the kernel g: 16
multiplications instead of 36, and as matrix products over the channels. cuDNN does so by itself; XLA's CPU backend does
not. The values are the direct convolution's to rounding: the transforms add, subtract and halve.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Grid = Sequence[Sequence[Array]]
Matrix = Sequence[Sequence[float]]

INPUT: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B^T
KERNEL: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # G
OUTPUT: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))  # A^T

# With fewer channels the transforms' memory traffic outweighs the products they save, with fewer tiles the kernel's.
# Of a single tile the products would be multiplications, which the compiler may fuse with sums: other bits.
_LEAST_CHANNELS, _CHANNELS = 128, 256  # of the narrower side, of the wider
_LEAST_TILES = 32
_LEAST_IMAGES = 2  # a step of many parts of one image is short beside the start of its large program
_MOST_BYTES = 2**29  # of a transformed map, four times the map's own size; beyond it memory is worth more than time


def pays() -> bool:
    """Whether the default backend gains by it in programs that run for long: CPUs do.

    The compilation takes some seconds more a program: too many for images of any size, with a program for each padded
    size.
    """
    return jax.default_backend() == "cpu"


def suits(x: Array, kernel_shape: Sequence[int]) -> bool:
    """Whether it makes a convolution of x [N, H, W, C] with a kernel [h, w, C, F] faster.

    That is for 3x3 kernels of many channels in float32 on maps of some size, but not so large that memory suffers; of
    several images, see _LEAST_IMAGES.
    """
    narrower, wider = sorted(kernel_shape[2:])
    tiles = x.shape[0] * (-(-x.shape[1] // 2)) * (-(-x.shape[2] // 2))
    return (
        tuple(kernel_shape[:2]) == (3, 3)
        and x.dtype == jnp.float32
        and (narrower >= _LEAST_CHANNELS and wider >= _CHANNELS)
        and x.shape[0] >= _LEAST_IMAGES
        and tiles >= _LEAST_TILES
        and 16 * 4 * tiles * wider <= _MOST_BYTES
    )


def convolution(x: Array, kernel: Array, *args: Any, **kwargs: Any) -> Array:
    """`convolve_3x3` in the place of `lax.conv_general_dilated` in a `flax.linen.Conv` of stride 1, padding SAME."""
    return convolve_3x3(x, kernel)


@jax.custom_vjp
def convolve_3x3(x: Array, kernel: Array) -> Array:
    """3x3 convolution of stride 1 with padding SAME: x [N, H, W, C], kernel [3, 3, C, F] -> [N, H, W, F].

    Its gradients are computed in the same way. It has no forward-mode derivative.
    """
    return _convolved(x, [[kernel[i, j] for j in range(3)] for i in range(3)], contracted=0)


def _convolved(x: Array, kernel: Grid, contracted: int) -> Array:
    """Convolution with a 3x3 grid of matrices, whose axis ``contracted`` is x's channels."""
    tiles, kernels = transformed(INPUT, _input_tiles(x)), transformed(KERNEL, kernel)
    products = _products(tiles, kernels, (1, contracted))
    count, height, width, _ = x.shape
    outputs = transformed(OUTPUT, products)  # of each tile its 2x2 pixels
    by_row = [jnp.stack([a.reshape(count, -(-height // 2), -(-width // 2), a.shape[1]) for a in r], 3) for r in outputs]
    pixels = jnp.stack(by_row, 2)  # [N, tiles, 2, tiles, 2, F]
    pixels = pixels.reshape(count, height + height % 2, width + width % 2, pixels.shape[-1])
    return pixels[:, :height, :width]


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve_3x3(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    turned = [[kernel[2 - i, 2 - j] for j in range(3)] for i in range(3)]
    of_input = _convolved(gradient, turned, contracted=1)
    tiles, cotangents = transformed(INPUT, _input_tiles(x)), transformed(_transpose(OUTPUT), _output_tiles(gradient))
    of_kernel = transformed(_transpose(KERNEL), _products(tiles, cotangents, (0, 0)))
    return of_input, jnp.stack([jnp.stack(row) for row in of_kernel])


convolve_3x3.defvjp(_forward, _backward)


def transformed(matrix: Matrix, grid: Grid) -> Grid:
    """M X M^T of a grid X of arrays of one shape."""
    rows = [_combinations(matrix, column) for column in zip(*grid)]  # M X, transposed
    return [_combinations(matrix, row) for row in zip(*rows)]


def _combinations(matrix: Matrix, arrays: Sequence[Array]) -> list[Array]:
    return [functools.reduce(operator.add, [c * a for c, a in zip(row, arrays) if c]) for row in matrix]


def _products(left: Grid, right: Grid, contracted: tuple[int, int]) -> Grid:
    """Products of the matrices at the same place of two grids, over an axis of each."""
    axes = (((contracted[0],), (contracted[1],)), ((), ()))
    return [[lax.dot_general(*pair, axes) for pair in zip(*rows)] for rows in zip(left, right)]


def _transpose(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix))


def _input_tiles(x: Array) -> Grid:
    """The 4x4 pixels of all tiles, which overlap by two: a grid of [tiles, C]."""
    _, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
    starts = [(i, i + height + height % 2) for i in range(4)], [(j, j + width + width % 2) for j in range(4)]
    return [[padded[:, a:b:2, c:d:2].reshape(-1, channels) for c, d in starts[1]] for a, b in starts[0]]


def _output_tiles(y: Array) -> Grid:
    """The 2x2 pixels of all tiles: a grid of [tiles, F]."""
    padded = jnp.pad(y, ((0, 0), (0, y.shape[1] % 2), (0, y.shape[2] % 2), (0, 0)))
    return [[padded[:, i::2, j::2].reshape(-1, y.shape[-1]) for j in range(2)] for i in range(2)]
