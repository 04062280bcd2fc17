"""Class VGG: nets A to E driven by a row of Table 1, in ordinary and in fully convolutional form (sec. 2, 3.2)."""

import functools
from collections.abc import Callable, Collection
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from vgg_jax.architectures import FC_CHANNELS, ConvLayer, blocks_of
from vgg_jax.errors import InputError
from vgg_jax.layers import LRN_CONVENTIONS, POOL_ROUNDINGS, local_response_norm, max_pool, pooled_size
from vgg_jax.winograd import convolution, suits

DTYPES = ("float32", "bfloat16")
STRIDE = 32  # five 2x2 pools

INITIALIZERS: dict[str, Callable[[float], nn.initializers.Initializer]] = {
    "glorot": lambda std: nn.initializers.glorot_uniform(),
    "gaussian": lambda std: nn.initializers.normal(std),
}


class VGG(nn.Module):
    """A VGG net; images RGB 0..255 (uint8 or float) in, logits out. It subtracts the mean RGB itself.

    Params: {"conv1_1": {"kernel" [3, 3, 3, 64], "bias"}, ..., "fc6" [w*w*512, 4096], "fc7", "fc8"}; w = crop_size / 32,
    fc6's input flattened in H, W, C order. Params stay float32; ``dtype`` is the dtype of the computation; logits are
    float32 (float64 where dtype is). ``width_multiplier`` scales the convolutions, fc6 and fc7. ``initializer`` is
    "glorot" or "gaussian" with standard deviation ``initializer_std``; biases start at 0 (sec. 3.1).

    ``fully_convolutional=True`` is the dense form: params as `vgg_jax.eval.fc_to_conv` makes them, images of any size,
    a map of class scores out. Unknown names and sizes that do not fit raise InputError.
    """

    arch: str = "D"
    num_classes: int = 1000
    width_multiplier: float = 1.0
    crop_size: int = 224
    dropout_rate: float = 0.5
    mean_rgb: tuple[float, float, float] = (123.68, 116.779, 103.939)
    std_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pool_rounding: str = "floor"
    lrn: str = "krizhevsky"
    dtype: Any = jnp.float32
    initializer: str = "glorot"
    initializer_std: float = 0.01
    fully_convolutional: bool = False

    def __call__(
        self,
        images: Array,
        *,
        train: bool = False,
        example_index: Array | None = None,
        valid_size: Array | None = None,
        remat: bool = False,
        winograd: bool = False,
    ) -> Array:
        """Logits [N, num_classes] of images [N, crop, crop, 3]; the dense form: scores [N, h, w, num_classes].

        train: dropout on fc6 and fc7 with ``rngs={"dropout": key}``; row i's mask comes from
            fold_in(key, example_index[i]), so it does not depend on how a batch is split. None means arange(N).
        example_index: int32 [N], global positions of the examples.
        valid_size: dense form only, int32 [N, 2]: height and width of the image in its zero-padded frame. Zeros are put
            back outside it after each layer, so that the scores inside are those of the unpadded image.
        remat: the backward pass computes the first block's activations again instead of keeping them: those of the
            others are gone when it comes to this block, whose own gradients need most, so keeping fewer gains nothing.
        winograd: fewer multiplications in wide 3x3 convolutions, for CPUs: the same values to rounding, but no
            forward-mode derivatives; see `vgg_jax.winograd`.
        """
        options: dict[str, Any] = {"train": train, "example_index": example_index, "valid_size": valid_size}
        logits = self.activations(images, ("fc8",), **options, remat=remat, winograd=winograd)["fc8"]
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    @nn.compact
    def activations(
        self,
        images: Array,
        layers: Collection[str],
        *,
        train: bool = False,
        example_index: Array | None = None,
        valid_size: Array | None = None,
        remat: bool = False,
        winograd: bool = False,
    ) -> dict[str, Array]:
        """Activations by layer, names as in `activation_names`, without computing or needing anything deeper.

        A convolution with LRN is tapped before the LRN. The other arguments are the forward pass's; outside of
        valid_size the activations mean nothing.
        """
        self._check(images)
        tapped: dict[str, Array] = {}

        def tap(name: str, x: Array) -> bool:
            """Keep x if it is asked for; whether all that is asked for is there."""
            if name in layers:
                tapped[name] = x
            return len(tapped) == len(layers)

        x = normalize(images, self.mean_rgb, self.std_rgb, self.dtype)
        x = x if valid_size is None else mask_outside(x, valid_size)
        for number, block in enumerate(blocks_of(self.arch), start=1):
            convolve = functools.partial(VGG._block, block=block, tap=tap, valid_size=valid_size, winograd=winograd)
            x = (nn.remat(convolve) if remat and number == 1 else convolve)(self, x)
            if len(tapped) == len(layers):
                return tapped
            if valid_size is not None:
                valid_size = pooled_size(valid_size, self.pool_rounding)
                x = mask_outside(x, valid_size)
            if tap(f"pool{number}", x):
                return tapped
        if not self.fully_convolutional:
            x = x.reshape(x.shape[0], -1)  # [N, w*w*C] in H, W, C order
        window = self.crop_size // STRIDE
        for name, kernel in (("fc6", window), ("fc7", 1)):
            x = self._fc(name, scaled(FC_CHANNELS, self.width_multiplier), kernel)(x)
            tap(f"{name}/pre", x)
            x = nn.relu(x)
            if tap(name, x):
                return tapped
            if train and self.dropout_rate:
                x = self._dropout(x, example_index)
        tap("fc8", self._fc("fc8", self.num_classes, 1)(x))
        return tapped

    def _block(
        self,
        x: Array,
        *,
        block: tuple[ConvLayer, ...],
        tap: Callable[[str, Array], bool],
        valid_size: Array | None,
        winograd: bool,
    ) -> Array:
        """The convolutions of a block and its pool; it ends where ``tap`` has all that is asked for."""
        for layer in block:
            x = self._conv(layer, x, winograd)(x)
            tap(f"{layer.name}/pre", x)
            x = nn.relu(x)
            if valid_size is not None and (layer is not block[-1] or self.pool_rounding == "ceil"):
                x = mask_outside(x, valid_size)
            if tap(layer.name, x):
                return x
            if layer.lrn:
                x = local_response_norm(x, self.lrn)
        return max_pool(x, self.pool_rounding)

    def _conv(self, layer: ConvLayer, x: Array, winograd: bool) -> nn.Conv:
        self._check_params(layer.name)
        window, channels = (layer.kernel, layer.kernel), scaled(layer.channels, self.width_multiplier)
        return nn.Conv(
            channels,
            window,
            padding="SAME",
            dtype=self.dtype,
            kernel_init=INITIALIZERS[self.initializer](self.initializer_std),
            name=layer.name,
            conv_general_dilated=convolution if winograd and suits(x, (*window, x.shape[-1], channels)) else None,
        )

    def _fc(self, name: str, channels: int, window: int) -> nn.Module:
        self._check_params(name)
        kernel_init = INITIALIZERS[self.initializer](self.initializer_std)
        if self.fully_convolutional:
            return nn.Conv(
                channels, (window, window), padding="VALID", dtype=self.dtype, kernel_init=kernel_init, name=name
            )
        return nn.Dense(channels, dtype=self.dtype, kernel_init=kernel_init, name=name)

    def _dropout(self, x: Array, example_index: Array | None) -> Array:
        """Inverted dropout of x [N, F], each row's mask from its own key."""
        index = jnp.arange(len(x)) if example_index is None else example_index
        key = self.make_rng("dropout")
        keep = 1.0 - self.dropout_rate
        masks = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(key, i), keep, x.shape[1:]))(index)
        return jnp.where(masks, x / keep, jnp.zeros_like(x))

    def _check_params(self, name: str) -> None:
        if not self.is_initializing() and not self.has_variable("params", name):
            raise InputError(
                f"params have no {name}: give all layers of net {self.arch}; of a convolutional body, without fc6 to "
                "fc8, vgg_jax.features gives the activations up to pool5"
            )

    def _check(self, images: Array) -> None:
        blocks_of(self.arch)
        choices = {"initializer": tuple(INITIALIZERS), "lrn": tuple(LRN_CONVENTIONS), "pool_rounding": POOL_ROUNDINGS}
        for field, known in choices.items():
            if (value := getattr(self, field)) not in known:
                raise InputError(f"unknown {field} {value!r}: choose one of {', '.join(known)}")
        if self.crop_size < STRIDE or self.crop_size % STRIDE:
            raise InputError(f"crop_size is {self.crop_size}, but it must be a multiple of {STRIDE}, as 224")
        if images.ndim != 4 or images.shape[-1] != 3:
            raise InputError(f"images have shape {list(images.shape)}, but VGG takes RGB images [N, H, W, 3]")
        crop = (self.crop_size, self.crop_size)
        if not self.fully_convolutional and images.shape[1:3] != crop:
            raise InputError(
                f"images are {images.shape[1]}x{images.shape[2]}, but this VGG takes {crop[0]}x{crop[1]} (crop_size): "
                "crop them, or use vgg_jax.eval.dense_eval for images of any size"
            )


def model_dtype(name: str) -> Any:
    """The dtype of the computation by name; one that no VGG computes in raises InputError."""
    if name not in DTYPES:
        raise InputError(f"unknown dtype {name!r}: choose one of {', '.join(DTYPES)}")
    return jnp.dtype(name)


def scaled(channels: int, width_multiplier: float) -> int:
    """Channels of a layer at a width, at least one."""
    return max(1, round(channels * width_multiplier))


def map_side(model: VGG, layer: str, side: Any) -> Any:
    """Side of a layer's map (see `activation_names`) of an image with this side; ints or arrays."""
    fully_connected = layer.startswith("fc")
    for _ in range(5 if fully_connected else int(layer[4]) - layer.startswith("conv")):
        side = pooled_size(side, model.pool_rounding)
    return side - model.crop_size // STRIDE + 1 if fully_connected else side


def normalize(images: Array, mean_rgb: tuple[float, ...], std_rgb: tuple[float, ...], dtype: Any) -> Array:
    """Subtract the mean RGB and divide by the std, in float32 before any cast to a narrower dtype (sec. 2.1)."""
    precise = jnp.promote_types(dtype, jnp.float32)
    mean, std = (jnp.asarray(rgb, precise).reshape(1, 1, 1, 3) for rgb in (mean_rgb, std_rgb))
    return ((images.astype(precise) - mean) / std).astype(dtype)


def mask_outside(x: Array, valid_size: Array) -> Array:
    """Zeros outside each image's own valid height and width: x [N, H, W, C], valid_size int32 [N, 2]."""
    rows = jnp.arange(x.shape[1])[None, :] < valid_size[:, :1]  # [N, H]
    columns = jnp.arange(x.shape[2])[None, :] < valid_size[:, 1:]  # [N, W]
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], x, jnp.zeros((), x.dtype))
