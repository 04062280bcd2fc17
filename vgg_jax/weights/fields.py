"""A model's fields as JSON values, and back: what is stored beside weights."""

from typing import Any

import jax.numpy as jnp

from vgg_jax.model import VGG


def model_fields(model: VGG) -> dict[str, Any]:
    """The fields of a model as JSON values, what `model_from_fields` makes a model of."""
    fields = {name: getattr(model, name) for name in VGG.__dataclass_fields__ if name not in ("parent", "name")}
    return {**fields, "dtype": jnp.dtype(model.dtype).name}


def model_from_fields(fields: dict[str, Any]) -> VGG:
    """A model from its JSON fields."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    values["dtype"] = jnp.dtype(values["dtype"])
    return VGG(**values)


def describe(model: VGG, has_top: bool) -> str:
    """Net, sizes and preprocessing of a model in a line; has_top: its params have fc6, fc7 and fc8."""
    mean, std = (", ".join(f"{value:g}" for value in rgb) for rgb in (model.mean_rgb, model.std_rgb))
    top = f"{model.num_classes} classes, crop {model.crop_size}" if has_top else "convolutions alone"
    return (
        f"net {model.arch}, width {model.width_multiplier:g}, {top}, mean RGB {mean}, std {std}, "
        f"odd sides pooled by {model.pool_rounding}"
    )
