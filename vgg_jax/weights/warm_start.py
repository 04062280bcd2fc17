"""Start a net from the layers of another: net A -> deeper nets (sec. 3.1), stage -> stage."""

from jax import Array

from vgg_jax.architectures import FC_LAYERS, PAPER_A_LAYERS
from vgg_jax.errors import InputError

Params = dict[str, dict[str, Array]]

TAKEN_LAYERS = ("all", "paper_a", "conv")


def warm_start(params: Params, donor: Params, layers: str = "all") -> Params:
    """Params whose layers, by NAME, come from a donor net; the others stay as they are (freshly drawn).

    layers: "all" of the net's layers; "paper_a", the first four convolutions and the three fully connected layers of
        net A; "conv", the convolutions. Raises InputError that lists every layer that is missing or misshapen.
    """
    if layers not in TAKEN_LAYERS:
        raise InputError(f"unknown init_layers {layers!r}: choose one of {', '.join(TAKEN_LAYERS)}")
    names = {
        "all": tuple(params),
        "paper_a": PAPER_A_LAYERS,
        "conv": tuple(name for name in params if name not in FC_LAYERS),
    }[layers]
    faults = [fault for name in names if (fault := _fault(name, params, donor))]
    if faults:
        raise InputError(f"cannot start from the other net's {layers} layers: {'; '.join(faults)}")
    return {name: donor[name] if name in names else layer for name, layer in params.items()}


def _fault(name: str, params: Params, donor: Params) -> str | None:
    if name not in params or name not in donor:
        return f"{name} is missing"
    shapes = [tuple(layer[name]["kernel"].shape) for layer in (donor, params)]
    return None if shapes[0] == shapes[1] else f"{name} has shape {shapes[0]} but {shapes[1]} is needed"
