"""Our forward pass and training step as sides of a comparison, and the switches that may make them faster."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from interleave import Side
from jax import Array, lax
from peer_flax import DECAY, MOMENTUM, RATE

from vgg_jax import winograd
from vgg_jax.architectures import ConvLayer
from vgg_jax.compilation import compiler_options, training_options
from vgg_jax.eval import fc_to_conv
from vgg_jax.model import VGG, scaled
from vgg_jax.optimizer import sgd
from vgg_jax.training.state import init_params, init_state
from vgg_jax.training.step import Objective, train_step


class Variant(NamedTuple):
    """One setting of the switches; the defaults are what train.py does on one device."""

    dtype: str = "float32"
    donate: bool = True
    micro_batches: int = 1
    first_channels: int = 3  # what images and conv1_1's kernel are padded to with zeros, which changes no value
    reduce_window: bool = False  # XLA's pool and its select-and-scatter
    masked: bool = False  # of whole images: as if they had been padded
    direct: bool = False  # convolutions of the training step without Winograd, which is for CPUs
    options: Mapping[str, Any] = {}  # compiler options beside our own


# Each is one change of what is measured as "vgg_jax". An option that an XLA does not know costs its row alone.
SWITCHES: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "not donated": {"donate": False},
    "8 micro-batches": {"micro_batches": 8},
    "conv1_1 of 4 channels": {"first_channels": 4},
    "conv1_1 of 8 channels": {"first_channels": 8},
    "pool by reduce_window": {"reduce_window": True},
}
_YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
BACKEND_SWITCHES: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {
        "direct convolutions": {"direct": True},
        "8 micro-batches in turn": {"micro_batches": 8, "options": {"xla_disable_hlo_passes": "cse_barrier_expander"}},
        "no reductions by YNNPACK": {"options": {_YNNPACK: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}},
        "convolutions by YNNPACK": {
            "options": {
                _YNNPACK: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE,"
                "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
            }
        },
        "convolutions by oneDNN": {"options": {"xla_cpu_experimental_onednn_custom_call": True}},
    },
    "gpu": {
        **{f"autotune level {level}": {"options": {"xla_gpu_autotune_level": level}} for level in (0, 2)},
        "no Triton products": {"options": {"xla_gpu_enable_triton_gemm": False}},
        "latency-hiding scheduler": {"options": {"xla_gpu_enable_latency_hiding_scheduler": True}},
        "no command buffers": {"options": {"xla_gpu_enable_command_buffer": ""}},
        "cuDNN fusion": {"options": {"xla_gpu_cudnn_gemm_fusion_level": 2}},
    },
}


class PaddedVGG(VGG):
    """A VGG whose first convolution is computed with more channels, those added being zero."""

    first_channels: int = 3

    def _conv(self, layer: ConvLayer, x: Array, winograd: bool) -> nn.Conv:
        if layer.name != "conv1_1":
            return super()._conv(layer, x, winograd)
        return nn.Conv(
            scaled(layer.channels, self.width_multiplier),
            (layer.kernel, layer.kernel),
            dtype=self.dtype,
            name=layer.name,
            conv_general_dilated=functools.partial(padded_convolution, channels=self.first_channels),
        )


def padded_convolution(images: Array, kernel: Array, *args: Any, channels: int, **kwargs: Any) -> Array:
    """`lax.conv_general_dilated` of images [N, H, W, 3] and kernel [h, w, 3, C] with zero channels added to both."""
    more = channels - images.shape[-1]
    images, kernel = jnp.pad(images, [(0, 0)] * 3 + [(0, more)]), jnp.pad(kernel, [(0, 0)] * 2 + [(0, more), (0, 0)])
    return lax.conv_general_dilated(images, kernel, *args, **kwargs)


def forward(model: VGG, images: np.ndarray, variant: Variant, dense: bool = False) -> tuple[Side, int]:
    """The jitted forward pass, logits or (dense) maps of scores, and the bytes its program takes."""
    params = init_params(model, 0)
    if dense:
        model, params = model.clone(fully_convolutional=True), fc_to_conv(params)
    model, batch = of_variant(model, variant), jnp.asarray(images)
    sizes = {"valid_size": jnp.broadcast_to(jnp.asarray(images.shape[1:3]), (len(images), 2))} if variant.masked else {}

    def apply(params: Any, images: Array, sizes: dict[str, Array]) -> Any:
        return model.apply({"params": params}, images, **sizes)

    jitted = jax.jit(apply, compiler_options={**compiler_options(), **variant.options})
    with pool_of(variant):
        program = jitted.lower(params, batch, sizes).compile()
    return lambda: jax.block_until_ready(program(params, batch, sizes)), program_bytes(program)


def train(model: VGG, images: np.ndarray, labels: np.ndarray, variant: Variant) -> tuple[Side, int]:
    """The jitted training step with dropout, without colour shift, which the peers lack, and its program's bytes."""
    optimizer = sgd(RATE, MOMENTUM, DECAY)
    step = functools.partial(
        train_step,
        objective=Objective(of_variant(model, variant), winograd=winograd.pays() and not variant.direct),
        optimizer=optimizer,
        batch_size=len(images),
        micro_batches=min(variant.micro_batches, len(images)),
    )
    state = init_state(init_params(model, 0), optimizer)
    batch = {"image": jnp.asarray(images), "label": jnp.asarray(labels), "index": jnp.arange(len(images))}
    options = {**training_options(), **variant.options}
    jitted = jax.jit(step, donate_argnums=0 if variant.donate else (), compiler_options=options)
    with pool_of(variant):
        program = jitted.lower(state, batch, np.uint32(0)).compile()

    def side() -> None:
        nonlocal state
        state, metrics = program(state, batch, np.uint32(0))
        metrics["loss"].block_until_ready()

    return side, program_bytes(program)


def of_variant(model: VGG, variant: Variant) -> VGG:
    """A model as a variant computes it."""
    fields = {name: getattr(model, name) for name in VGG.__dataclass_fields__ if name not in ("parent", "name")}
    fields["dtype"] = jnp.dtype(variant.dtype)
    return VGG(**fields) if variant.first_channels == 3 else PaddedVGG(**fields, first_channels=variant.first_channels)


@contextlib.contextmanager
def pool_of(variant: Variant) -> Iterator[None]:
    """The pool that is traced meanwhile."""
    if not variant.reduce_window:
        yield
        return
    with mock.patch("vgg_jax.model.max_pool", lambda x, rounding: nn.max_pool(x, (2, 2), strides=(2, 2))):
        yield


def program_bytes(program: Any) -> int:
    """What a compiled program needs at once: arguments, results and temporaries, less what they share."""
    sizes = program.memory_analysis()
    return (
        sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes - sizes.alias_size_in_bytes
    )
