"""Load a trained net from the stage of a workdir."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.weights.warm_start import Params


def load_weights(path: str | Path, *, checkpoint: str = "best") -> tuple[VGG, Params]:
    """(model, params) of a stage, WORKDIR/STAGE; model is a VGG with all its fields set.

    checkpoint: "best" by validation top-1 error, or "latest". Needs orbax. Raises InputError where there is none.
    """
    model, params, _ = load_stage(path, checkpoint=checkpoint)
    return model, params


def load_stage(path: str | Path, *, checkpoint: str = "best") -> tuple[VGG, Params, dict[str, Any]]:
    """As `load_weights`, and the checkpoint's record: "step", "model", "init", "checkpoint" (which it is), ... ."""
    from vgg_jax.checkpoint import find_step, open_checkpoints, read_info, restore  # orbax only where it is needed

    directory = Path(path) / "checkpoints"
    if not directory.is_dir():
        raise InputError(f"{path} is no stage of a workdir: it has no folder named checkpoints")
    with open_checkpoints(directory) as manager:
        step = find_step(manager, checkpoint)
        if step is None:
            raise InputError(f"{path} holds no checkpoint yet: train the stage first")
        best_is_known = manager.best_step() is not None
        info = {**read_info(manager, step), "checkpoint": checkpoint if best_is_known else "latest"}
        model = model_from_fields(info["model"])
        images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), jnp.uint8)
        target = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
        target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=_first_device()), target)
        return model, restore(manager, step, {"params": target})["params"], info


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


def _first_device() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
