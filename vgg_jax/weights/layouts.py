"""Our params -> a program's names, layouts and order of channels; the way back is `assemble`."""

import math

import jax
import numpy as np

from vgg_jax.architectures import FC_LAYERS, layer_names
from vgg_jax.errors import InputError
from vgg_jax.model import STRIDE, VGG
from vgg_jax.weights.found import Arrays
from vgg_jax.weights.names import CONVENTIONS, Convention
from vgg_jax.weights.warm_start import Params

OWN = "vgg_jax"

# program -> net -> what the program calls it
PROGRAM_NETS = {
    "torchvision": {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"},
    "timm": {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"},
    "keras": {"D": "VGG16", "E": "VGG19"},
}


def exported(model: VGG, params: Params, program: str) -> Arrays:
    """{the program's name of a layer: {"kernel", "bias"}}, the program's layouts, no value changed.

    A convolutional body stays one. Raises InputError for net A-LRN, whose arrays these programs would take for a net A
    without a word.
    """
    if model.arch == "A-LRN":
        raise InputError(
            f"{program} has no net A-LRN, and would take its arrays for a net A without the LRN: write our own layout"
        )
    convention = CONVENTIONS[program]
    assert convention.names is not None
    names = zip(layer_names(model.arch), convention.names(model.arch))
    layers = jax.tree.map(np.asarray, params)
    return {theirs: _layer(model, layers[ours], ours, convention) for ours, theirs in names if ours in layers}


def net_in(model: VGG, program: str) -> str | None:
    """What the program calls this net; None where it has no such net, or in another width or crop alone."""
    usual = (model.width_multiplier, model.crop_size) == (VGG.width_multiplier, VGG.crop_size)
    return PROGRAM_NETS[program].get(model.arch) if usual else None


def _layer(model: VGG, layer: dict[str, np.ndarray], name: str, convention: Convention) -> dict[str, np.ndarray]:
    kernel, bias = layer["kernel"], layer["bias"]
    if name == "conv1_1" and convention.input_order == "BGR":
        kernel = kernel[:, :, ::-1]
    if name in FC_LAYERS:
        window = model.crop_size // STRIDE if name == "fc6" else 1
        kernel = kernel.reshape(window, window, -1, kernel.shape[-1])  # [h, w, C, F]
        if name not in convention.windows:
            kernel = kernel.transpose(2, 0, 1, 3) if convention.flatten == "CHW" else kernel
            kernel = kernel.reshape(-1, kernel.shape[-1])
    if convention.kernel == "OIHW":
        kernel = kernel.T if kernel.ndim == 2 else kernel.transpose(3, 2, 0, 1)
    return {"kernel": np.ascontiguousarray(kernel), "bias": bias}


def preprocessing(model: VGG, program: str) -> str:
    """What the program must do with an image before this net, in a line, in its own units and order of channels."""
    mean: tuple[float, ...] = model.mean_rgb
    std: tuple[float, ...] = model.std_rgb
    if program in ("torchvision", "timm"):
        mean, std = (tuple(value / 255 for value in rgb) for rgb in (mean, std))
        return f"RGB in 0..1, (x - mean) / std with mean {_numbers(mean)} and std {_numbers(std)}"
    if program == "keras":
        divided = "" if set(std) == {1.0} else f", divided by std {_numbers(std[::-1])}"
        return f"BGR in 0..255, minus mean {_numbers(mean[::-1])}{divided}"
    return (
        f"RGB in 0..255, given as it is: the model subtracts mean {_numbers(mean)} and divides by std {_numbers(std)}"
    )


def peculiarities(model: VGG, params: Params, program: str) -> list[str]:
    """Where these weights are not as the program's own nets are, a sentence each."""
    if program == OWN:
        return []
    convention, told = CONVENTIONS[program], []
    if net_in(model, program) is None:
        told.append(
            f"{program} has no net {model.arch} of width {model.width_multiplier:g} for crops of {model.crop_size}: "
            f"a module of your own with {program}'s names of the layers takes the file"
        )
    if "fc8" not in params:
        told.append("convolutions alone, without the fully connected layers")
    if not _close(model.mean_rgb, convention.mean_rgb) or not _close(model.std_rgb, convention.std_rgb):
        told.append(f"not {program}'s usual mean and std: it takes {preprocessing(model, program)}")
    if model.pool_rounding != convention.pool_rounding:
        told.append(
            f"its pools round odd sides by {model.pool_rounding}, {program}'s by {convention.pool_rounding}: the same "
            "at the crop, not on other sizes"
        )
    return told


def _close(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(math.isclose(x, y, rel_tol=1e-6) for x, y in zip(a, b))


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.7g}' for value in values)})"
