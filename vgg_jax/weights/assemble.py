"""Layers found in another program's file -> (model, params): net, sizes and layouts from the shapes."""

import logging
import math
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.architectures import ARCHITECTURES, FC_CHANNELS, FC_LAYERS, blocks_of, layer_names
from vgg_jax.errors import InputError
from vgg_jax.model import STRIDE, VGG, scaled
from vgg_jax.weights.fields import describe
from vgg_jax.weights.found import Arrays, Found, Layer, Malformed
from vgg_jax.weights.metadata import described_model
from vgg_jax.weights.names import CONVENTIONS, ONE, TORCH_FEATURES_MEAN
from vgg_jax.weights.warm_start import Params

INPUT_ORDERS = ("RGB", "BGR")

log = logging.getLogger(__name__)


def assemble(found: Found, where: str, arch: str | None = None, input_order: str | None = None) -> tuple[VGG, Params]:
    """The model and its params in our names, layout and RGB order; what was recognised is logged.

    arch: the net, if not the one that fits the layers best. input_order: "RGB" or "BGR", the order of the channels that
    conv1_1 takes in the file, if not the program's. A file that we wrote in a program's layout says itself which model
    it holds. A file without fc6, fc7 and fc8, or with NaN in them, gives the params of the convolutions alone. Raises
    InputError that lists every layer that is missing, extra or misshapen.
    """
    if input_order not in (None, *INPUT_ORDERS):
        raise InputError(f"unknown input_order {input_order!r}: choose one of {', '.join(INPUT_ORDERS)}")
    told = described_model(found.metadata, where) if found.metadata else None
    if told and arch not in (None, told.arch):
        raise InputError(f"{where} holds a net {told.arch}, not the net {arch} that was asked for")
    arch = told.arch if told else arch or _best_arch(found)
    names = dict(zip(layer_names(arch), _file_names(found, arch)))
    body = not any(names[name] in found.layers for name in FC_LAYERS)
    wanted = {ours: theirs for ours, theirs in names.items() if not (body and ours in FC_LAYERS)}
    shapes = _shapes(found, wanted)
    model = told or _model(found, arch, shapes)
    _check(found, model, wanted, shapes, where)
    params = {ours: _read_layer(found, model, ours, found.layers[theirs]) for ours, theirs in wanted.items()}
    model, params, why = _without_nan_top(found, model, params)
    if broken := [name for name, layer in params.items() if not all(np.isfinite(a).all() for a in layer.values())]:
        raise InputError(f"{where} holds NaN or infinity in {', '.join(broken)}: these weights are of no use")
    order = input_order or found.convention.input_order
    if found.mean is not None:
        model = model.clone(mean_rgb=found.mean[::-1] if order == "BGR" else found.mean)
    if order == "BGR":
        params["conv1_1"]["kernel"] = params["conv1_1"]["kernel"][:, :, ::-1]
    why_order = "as asked for" if input_order else found.order_from
    found_net = describe(model, "fc8" in params)
    log.info("%s: %s, conv1_1 takes %s (%s), %s", where, found.format, order, why_order, found_net)
    if body or why:
        log.warning("%s has %s: loaded for features alone", where, why or "no fc6, fc7 and fc8")
    return model, jax.tree.map(lambda a: jnp.asarray(np.ascontiguousarray(a)), params)


def _file_names(found: Found, arch: str) -> tuple[str, ...]:
    """The file's names for our `layer_names`; where layers have no known names, those of as many layers in order."""
    if found.convention.names is not None:
        return found.convention.names(arch)
    convolutions = len(layer_names(arch)) - len(FC_LAYERS)
    in_order = [*found.layers, *(f"layer {i}" for i in range(len(found.layers) + 1, convolutions + len(FC_LAYERS) + 1))]
    return tuple(in_order[: convolutions + len(FC_LAYERS)])


def _best_arch(found: Found) -> str:
    """The net whose names and kernel sides disagree least with the file's; A before A-LRN unless the file has LRN."""

    def disagreements(arch: str) -> tuple[int, bool]:
        names = dict(zip(layer_names(arch), _file_names(found, arch)))
        without_top = {theirs for ours, theirs in names.items() if ours not in FC_LAYERS}
        number = len(without_top - found.layers.keys()) + len(found.layers.keys() - set(names.values()))
        sides = {layer.name: layer.kernel for block in blocks_of(arch) for layer in block} | {"fc7": 1, "fc8": 1}
        for name, side in sides.items():
            stored = found.layers.get(names[name], {}).get("kernel")
            if stored is not None and (name not in FC_LAYERS or len(stored.shape) == 4):
                number += _our_shape(stored.shape, found)[:2] != (side, side)
        return number, (arch == "A-LRN") != bool(found.lrn)

    return min(ARCHITECTURES, key=disagreements)


def _our_shape(shape: tuple[int, ...], found: Found) -> tuple[int, ...]:
    """The shape in our layout: [H, W, in, out]; [in, out] of an fc layer that is stored as a matrix."""
    if found.convention.kernel == "HWIO":
        return shape
    return shape[::-1] if len(shape) == 2 else (*shape[2:], *shape[1::-1])


def _shapes(found: Found, wanted: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Of the kernels that are there, in our layout."""
    kernels = {ours: found.layers.get(theirs, {}).get("kernel") for ours, theirs in wanted.items()}
    return {ours: _our_shape(kernel.shape, found) for ours, kernel in kernels.items() if kernel is not None}


def _check(found: Found, model: VGG, wanted: dict[str, str], shapes: dict[str, tuple[int, ...]], where: str) -> None:
    """Raise one InputError with all that is missing, extra and misshapen."""
    faults, misshapen = _name_faults(found, wanted), _shape_faults(found, model, wanted, shapes)
    sizes = (
        f"with width {model.width_multiplier:g}, crops of {model.crop_size} and {model.num_classes} classes "
        f"(shapes as H, W, in, out): {'; '.join(misshapen)}"
    )
    if faults:
        rest = f"; of those it has, {sizes}" if misshapen else ""
        raise InputError(
            f"{where} ({found.format}) has not the layers of a net {model.arch}: {'; '.join(faults)}{rest}"
        )
    if misshapen:
        raise InputError(f"{where} ({found.format}) does not fit a net {model.arch} {sizes}")


def _name_faults(found: Found, wanted: dict[str, str]) -> list[str]:
    faults = []
    for ours, theirs in wanted.items():
        for role in ("kernel", "bias"):
            if role not in found.layers.get(theirs, {}):
                faults.append(f"the {role} of {_both(ours, theirs)} is missing")
    for theirs, layer in found.layers.items():
        roles = {"kernel", "bias"} if theirs in wanted.values() else set[str]()
        faults += [f"{_printable(theirs)} ({_printable(role)}) is extra" for role in layer if role not in roles]
    return faults


def _model(found: Found, arch: str, shapes: dict[str, tuple[int, ...]]) -> VGG:
    """A model of the sizes that the shapes suggest; `_check` says where they do not agree."""
    rows = [layer for block in blocks_of(arch) for layer in block]
    pairs = [(row.channels, shapes[row.name][-1]) for row in rows if shapes.get(row.name)]
    pairs += [(FC_CHANNELS, shapes[name][-1]) for name in FC_LAYERS[:2] if shapes.get(name)]
    crop = VGG.crop_size
    if shapes.get("fc6") and shapes.get(rows[-1].name):
        windows = math.prod(shapes["fc6"][:-1]) // max(1, shapes[rows[-1].name][-1])
        crop = STRIDE * max(1, math.isqrt(windows))
    convention = found.convention
    return VGG(
        arch=arch,
        num_classes=shapes["fc8"][-1] if shapes.get("fc8") else VGG.num_classes,
        width_multiplier=_width(pairs),
        crop_size=crop,
        mean_rgb=convention.mean_rgb,
        std_rgb=convention.std_rgb,
        pool_rounding=convention.pool_rounding,
        lrn=found.lrn or VGG.lrn,
    )


def _width(pairs: list[tuple[int, int]]) -> float:
    """The simplest width at which channels become those found; pairs: (at full width, found)."""
    if not pairs:
        return VGG.width_multiplier
    low = max((found - 0.5) / full if found > 1 else 0.0 for full, found in pairs)  # at least one channel
    high = min((found + 0.5) / full for full, found in pairs)
    candidates = [2.0**-k for k in range(12)]
    candidates += [math.ceil(low * 10**digits) / 10**digits for digits in range(9)]
    for width in candidates:
        if width > 0 and all(scaled(full, width) == found for full, found in pairs):
            return width
    return pairs[0][1] / pairs[0][0] if low >= high or pairs[0][1] < 1 else (low + high) / 2


def _shape_faults(found: Found, model: VGG, wanted: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Of what is there; none where layers are known by their order alone and one of them is missing."""
    if found.convention.names is None and len(found.layers) != len(wanted):
        return []
    needed = _needed_shapes(model)
    faults = []
    for ours, theirs in wanted.items():
        there = {role: array.shape for role, array in found.layers.get(theirs, {}).items() if role in needed[ours]}
        for role, shape in {**there, **({"kernel": shapes[ours]} if ours in shapes else {})}.items():
            is_matrix = role == "kernel" and ours in FC_LAYERS and len(shape) == 4
            flat = (math.prod(shape[:3]), shape[3]) if is_matrix else shape
            if flat != needed[ours][role] or not _is_square(shape):
                need = list(needed[ours][role])
                faults.append(f"the {role} of {_both(ours, theirs)} has shape {list(shape)} but {need} is needed")
    return faults


@lru_cache(maxsize=64)
def _needed_shapes(model: VGG) -> dict[str, dict[str, tuple[int, ...]]]:
    images = jax.ShapeDtypeStruct((1, model.crop_size, model.crop_size, 3), jnp.uint8)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return {name: {role: array.shape for role, array in layer.items()} for name, layer in params.items()}


def _is_square(kernel: tuple[int, ...]) -> bool:
    return len(kernel) != 4 or kernel[0] == kernel[1]


def _read_layer(found: Found, model: VGG, name: str, layer: Layer) -> dict[str, np.ndarray]:
    """Kernel and bias of a layer, float32, in our layout."""
    kernel, bias = (layer[role].read() for role in ("kernel", "bias"))
    for role, array in (("kernel", kernel), ("bias", bias)):
        if array.shape != layer[role].shape:
            raise Malformed(f"the {role} of {name} has shape {list(array.shape)}, not {list(layer[role].shape)}")
    if name == "fc6" and kernel.ndim == 2 and found.convention.flatten == "CHW":
        window = model.crop_size // STRIDE
        kernel = kernel.reshape(len(kernel), -1, window, window)  # [F, C * h * w]
    if found.convention.kernel == "OIHW":
        kernel = kernel.T if kernel.ndim == 2 else kernel.transpose(2, 3, 1, 0)
    if name in FC_LAYERS:
        kernel = kernel.reshape(-1, kernel.shape[-1])
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def _without_nan_top(found: Found, model: VGG, params: Arrays) -> tuple[VGG, Arrays, str | None]:
    """Without fc6 to fc8 where they hold NaN, as torchvision's features-only file does, and why; else as they are."""
    nan = [name for name in FC_LAYERS if name in params and any(np.isnan(a).any() for a in params[name].values())]
    if not nan:
        return model, params, None
    if (
        found.convention == CONVENTIONS["torchvision"] and not found.metadata
    ):  # that file is the authors' net, with their mean and range
        model = model.clone(mean_rgb=TORCH_FEATURES_MEAN, std_rgb=ONE)
    body = {name: layer for name, layer in params.items() if name not in FC_LAYERS}
    return model, body, f"NaN in {', '.join(nan)}"


def _both(ours: str, theirs: str) -> str:
    return ours if ours == theirs else f"{ours} ({_printable(theirs)})"


def _printable(name: str) -> str:
    return name if name.isprintable() else ascii(name)
