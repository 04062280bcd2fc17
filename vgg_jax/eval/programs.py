"""The jitted programs of evaluation, the counter of their compilations, and batches of few shapes for any sizes."""

import contextlib
import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vgg_jax.compilation import compiler_options
from vgg_jax.errors import InputError
from vgg_jax.model import STRIDE

BUCKET = STRIDE  # images are padded to multiples of this side
LARGEST_SIDE = 1024  # beyond it an image is computed alone, so that a batch cannot eat the memory
DEFAULT_BATCH = 16  # on each device, at most
SET_PIXELS = 4 * 256 * 384  # of a batch of a whole set, on each device
RGB_RANGE = (0.0, 255.0)
_BRIGHTEST = 300.0  # of a picture in 0..255; interpolation may overshoot
_AXIS = "data"

BatchSize = int | Callable[[int, int], int] | None  # by height and width

_compilations = 0
_rows: dict[Any, int] = {}


def compilation_count() -> int:
    """How many programs the evaluation functions have compiled in this process."""
    return _compilations


@functools.cache
def compiled(function: Callable[..., Any], mesh: Mesh | None = None) -> Callable[..., Any]:
    """``jit(function(*static, params, *batches), static first argument)`` for the host level, counted.

    Concrete values are computed at once, also inside somebody's jit or grad, as the fixed target of a loss.
    mesh: the batches are split over its devices, params stand on all of them (see `replicated`).
    """

    @functools.wraps(function)
    def counted(static: Any, params: Any, *batches: Any) -> Any:
        global _compilations
        _compilations += 1  # runs when traced, which is once a compilation

        def bound(params: Any, *batches: Any) -> Any:
            return function(*static, params, *batches)

        if mesh is not None:
            specs = (P(), *(P(_AXIS) for _ in batches))
            bound = jax.shard_map(bound, mesh=mesh, in_specs=specs, out_specs=P(_AXIS))
        return bound(params, *batches)

    jitted = jax.jit(counted, static_argnums=0, compiler_options=compiler_options())

    @functools.wraps(function)
    def called(*arguments: Any) -> Any:
        with at_once():
            return jitted(*arguments)

    return called


def at_once() -> AbstractContextManager[None]:
    """Within, concrete values are computed also inside somebody's jit, as the fixed target of a loss.

    Outside of a jit nothing is changed: compile-time evaluation slows compilation down.
    """
    inside = isinstance(jnp.zeros(()), jax.core.Tracer)
    return jax.ensure_compile_time_eval() if inside else contextlib.nullcontext()


def local_mesh() -> Mesh | None:
    """One axis over the devices of this process; None where there is one alone."""
    devices = jax.local_devices()
    return jax.sharding.Mesh(devices, (_AXIS,), axis_types=(AxisType.Auto,)) if len(devices) > 1 else None


def replicated(params: Any, mesh: Mesh | None) -> Any:
    """Params on every device of a mesh, put there once."""
    return params if mesh is None else jax.device_put(params, NamedSharding(mesh, P()))


def mesh_size(mesh: Mesh | None) -> int:
    """The number of devices that a batch is split over."""
    return 1 if mesh is None else mesh.size


def batch_rows(program: Any, count: int, batch_size: int | None, devices: int = 1, largest: int = DEFAULT_BATCH) -> int:
    """Rows of the batches of a program, always the same, so that it compiles once whatever comes.

    program: anything hashable that names the program and the shape. batch_size: rows on each device; None lets the
    first call choose the power of two that holds its ``count`` items, at most ``largest``.
    """
    if batch_size is not None:
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r}, but a whole number from 1 is expected, or None")
        return devices * int(batch_size)
    each = -(-count // devices)
    return devices * _rows.setdefault((program, devices), min(largest, 1 << (each - 1).bit_length()))


def set_rows(height: int, width: int) -> int:
    """Rows on each device of the batches of a whole set, by their shape alone, so that a resumed evaluation gives the
    same bits: few where images are large, because rare shapes fill their batches with padding.
    """
    fitting = max(1, SET_PIXELS // (height * width))
    return min(DEFAULT_BATCH, 1 << (fitting.bit_length() - 1))


def padded_batches(
    images: Sequence[np.ndarray], program: Any, batch_size: BatchSize, devices: int = 1
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Group images by padded size: yields (indices, batch [B, H, W, 3], valid sizes int32 [B, 2]).

    H and W are multiples of 32; a bucket's batches have one B in all calls for a ``program`` (see `batch_rows`); the
    rest of a part-filled batch repeats its last image. So there is one shape a bucket. Images beyond LARGEST_SIDE come
    one at a time to each device.
    """

    def bucket(index: int) -> tuple[int, int]:
        height, width = images[index].shape[:2]
        return -(-height // BUCKET) * BUCKET, -(-width // BUCKET) * BUCKET

    dtype = np.uint8 if all(image.dtype == np.uint8 for image in images) else np.float32
    for (height, width), group in itertools.groupby(sorted(range(len(images)), key=bucket), key=bucket):
        members = list(group)
        each = batch_size(height, width) if callable(batch_size) else batch_size
        each = each if max(height, width) <= LARGEST_SIDE else 1
        count = batch_rows((program, height, width), len(members), each, devices)
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


def host_images(images: Any, value_range: tuple[float, float] | None = None) -> list[np.ndarray]:
    """A list of numpy images with values 0..255, uint8 as they are, anything else as float32.

    value_range: None for RGB 0..255, where floats that look like [0, 1] or normalised pixels raise InputError; a pair
    (lowest, highest) says what the values of black and white are, and is believed. NaN raises InputError always.
    """
    low, high = check_value_range(value_range)
    arrays = [np.asarray(image) for image in images]
    arrays = [a if a.dtype == np.uint8 else a.astype(np.float32, copy=False) for a in arrays]
    for index, array in enumerate(arrays):
        if array.dtype != np.uint8 and not np.isfinite(array).all():
            raise InputError(f"image {index} has NaN or infinite pixels, but RGB values 0..255 are expected: mend it")
        if value_range is None and array.dtype != np.uint8 and array.size:
            _check_looks(index, float(array.min()), float(array.max()))
    return arrays if (low, high) == RGB_RANGE else [to_rgb_range(a, (low, high)) for a in arrays]


def traced_images(images: Any, value_range: tuple[float, float] | None) -> Any:
    """One array [N, H, W, 3] with values 0..255 for work on traced values; what is concrete is checked all the same.

    Raises InputError for a list, whose images may have several sizes.
    """
    if isinstance(images, (list, tuple)):
        raise InputError("under jit, grad or vmap images must be one array [N, H, W, 3], not a list of images")
    if not is_traced(images):
        host_images(images, value_range)
    return to_rgb_range(jnp.asarray(images), value_range)


def to_rgb_range(images: Any, value_range: tuple[float, float] | None) -> Any:
    """Arrays whose values run from lowest to highest of a range, as 0..255; traced ones too."""
    low, high = check_value_range(value_range)
    return images if (low, high) == RGB_RANGE else (images - np.float32(low)) * np.float32(255 / (high - low))


def check_value_range(value_range: Any) -> tuple[float, float]:
    """(lowest, highest) of a value range, (0, 255) for None; anything but two rising numbers raises InputError."""
    try:
        low, high = (float(value) for value in (RGB_RANGE if value_range is None else value_range))
        if low < high and np.isfinite((low, high)).all():
            return low, high
    except (TypeError, ValueError):
        pass
    raise InputError(f"value_range is {value_range!r}, but a pair (lowest, highest) is expected, as (0, 1) or (0, 255)")


def _check_looks(index: int, lowest: float, highest: float) -> None:
    """Raise InputError for values of a float image that look like another range than 0..255, the commonest misuse."""
    if lowest >= 0 and 0 < highest <= 1:
        looks, mend = "lie in [0, 1]", "multiply them by 255, or say value_range=(0, 1)"
    elif lowest < 0 and highest <= 16:
        looks, mend = "look divided by a standard deviation", "give the pixels themselves: the model normalises them"
    elif lowest < -50:
        looks, mend = "look as if a mean was subtracted", "give the pixels themselves: the model subtracts the mean"
    elif highest > _BRIGHTEST:
        looks, mend = "are brighter than 8 bits hold", "divide them, or say value_range=(0, 65535)"
    else:
        return
    raise InputError(
        f"image {index} has values from {lowest:.3g} to {highest:.3g}, which {looks}, but RGB values 0..255 are "
        f"expected: {mend}; value_range=(0, 255) if they are meant so"
    )
