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
