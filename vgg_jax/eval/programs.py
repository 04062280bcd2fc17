"""The jitted programs of evaluation, the counter of their compilations, and batches of few shapes for any sizes."""

import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from vgg_jax.compilation import compiler_options
from vgg_jax.errors import InputError
from vgg_jax.model import STRIDE

BUCKET = STRIDE  # images are padded to multiples of this side
LARGEST_SIDE = 1024  # beyond it an image is computed alone, so that a batch cannot eat the memory
DEFAULT_BATCH = 16

_compilations = 0


def compilation_count() -> int:
    """How many programs the evaluation functions have compiled in this process."""
    return _compilations


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``jit(function, static first argument)`` for the host level, counted; keyword arguments are static as well."""

    @functools.wraps(function)
    def counted(static: Any, *arrays: Any) -> Any:
        global _compilations
        _compilations += 1  # runs when traced, which is once a compilation
        return function(*static, *arrays)

    return jax.jit(counted, static_argnums=0, compiler_options=compiler_options())


def padded_batches(
    images: Sequence[np.ndarray], batch_size: int | None
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Group images by padded size: yields (indices, batch [B, H, W, 3], valid sizes int32 [B, 2]).

    H and W are multiples of 32; a bucket's batches have one B, the power of two that holds its images and at most
    ``batch_size``; the rest of a part-filled batch repeats its last image. So there is one shape a bucket. Images
    beyond LARGEST_SIDE come one at a time.
    """
    largest = DEFAULT_BATCH if batch_size is None else batch_size

    def bucket(index: int) -> tuple[int, int]:
        height, width = images[index].shape[:2]
        return -(-height // BUCKET) * BUCKET, -(-width // BUCKET) * BUCKET

    dtype = np.uint8 if all(image.dtype == np.uint8 for image in images) else np.float32
    for (height, width), group in itertools.groupby(sorted(range(len(images)), key=bucket), key=bucket):
        members = list(group)
        count = min(largest, 1 << (len(members) - 1).bit_length()) if max(height, width) <= LARGEST_SIDE else 1
        for start in range(0, len(members), count):
            indices = members[start : start + count]
            padded = np.zeros((count, height, width, 3), dtype)
            sizes = np.empty((count, 2), np.int32)
            for row in range(count):
                image = images[indices[min(row, len(indices) - 1)]]
                padded[row, : image.shape[0], : image.shape[1]] = image
                sizes[row] = image.shape[:2]
            yield indices, padded, sizes


def check_images(images: Any) -> None:
    """Raise InputError unless images are one array [N, H, W, 3] or a list of [H, W, 3] arrays, with at least one."""
    if isinstance(images, (list, tuple)):
        for index, image in enumerate(images):
            if np.ndim(image) != 3 or np.shape(image)[-1] != 3:
                raise InputError(
                    f"image {index} has shape {list(np.shape(image))}, but RGB images [H, W, 3] are expected"
                )
    elif np.ndim(images) != 4 or np.shape(images)[-1] != 3:
        raise InputError(
            f"images have shape {list(np.shape(images))}, but one array [N, H, W, 3] or a list of [H, W, 3] is expected"
        )
    if not len(images):
        raise InputError("no images were given: at least one is expected")


def check_scales(scales: Any) -> tuple[int | None, ...]:
    """Test scales as a tuple, (None,) for the images as they are; anything but whole numbers raises InputError."""
    if scales is None:
        return (None,)
    try:
        numbers = tuple(operator.index(scale) for scale in scales)
    except TypeError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise InputError(
            f"scales is {scales!r}, but a sequence of smallest sides is expected, as (256, 384, 512), or None"
        )
    return numbers


def is_traced(*trees: Any) -> bool:
    """Whether any array of the trees stands under jit, grad or vmap, where nothing may look at values."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def host_images(images: Any) -> list[np.ndarray]:
    """A list of numpy images, uint8 as they are, anything else as float32."""
    arrays = [np.asarray(image) for image in images]
    return [a if a.dtype == np.uint8 else a.astype(np.float32, copy=False) for a in arrays]
