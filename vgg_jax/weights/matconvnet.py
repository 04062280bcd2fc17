"""MatConvNet's .mat, simplenn (layers with weights) or dagnn (params by name), as its VGGs converted from Caffe.

Kernels are H, W, in, out, and fc layers convolutions, so that the flatten order is ours. Whether conv1_1 takes RGB or
BGR is not written down, but the mean is: the mean of photographs has more red than blue.
"""

from typing import Any

import numpy as np

from vgg_jax.weights.found import Found, Layer, Malformed, in_memory, lrn_convention
from vgg_jax.weights.matlab_file import read_mat
from vgg_jax.weights.names import CONVENTIONS, Rgb

FORMAT = "MatConvNet (.mat)"


def read_matconvnet(data: memoryview) -> Found:
    """The layers with weights. Malformed where the file holds no net of MatConvNet."""
    variables = read_mat(data)
    net = variables.get("net", variables)
    if not isinstance(net, dict) or not isinstance(net.get("layers"), list):
        raise Malformed("it holds no net of MatConvNet: neither layers nor params")
    layers, lrn = _dagnn(net) if isinstance(net.get("params"), list) else _simplenn(net)
    mean = _mean(net)
    convention = CONVENTIONS["matconvnet"]
    if mean is None:
        return Found(FORMAT, layers, convention, lrn)
    order = "RGB" if mean[0] > mean[2] else "BGR"
    return Found(FORMAT, layers, convention._replace(input_order=order), lrn, mean, "by the file's averageImage")


def _simplenn(net: dict[str, Any]) -> tuple[dict[str, Layer], str | None]:
    layers: dict[str, Layer] = {}
    lrn = None
    for layer in net["layers"]:
        if not isinstance(layer, dict):
            raise Malformed("it has a layer that is no struct")
        if layer.get("type") in ("normalize", "lrn"):
            lrn = _lrn_convention(layer.get("param"))
        weights = layer.get("weights")
        if weights is None and "filters" in layer:  # before MatConvNet 1.0-beta7
            weights = [layer["filters"], layer.get("biases")]
        if isinstance(weights, list) and weights:
            _add(layers, str(layer.get("name", "")), dict(zip(("kernel", "bias"), weights)))
    return layers, lrn


def _dagnn(net: dict[str, Any]) -> tuple[dict[str, Layer], str | None]:
    """Params named as the layer and f or b (conv1_1f, conv1_1b), what dagnn.DagNN.fromSimpleNN makes."""
    layers: dict[str, Layer] = {}
    for param in net["params"]:
        name, value = (param.get("name"), param.get("value")) if isinstance(param, dict) else (None, None)
        if not isinstance(name, str):
            raise Malformed("it has a param without a name")
        ending = next((e for e in ("_filter", "_bias", "f", "b") if name.endswith(e)), "")
        role = {"_filter": "kernel", "f": "kernel", "_bias": "bias", "b": "bias"}.get(ending, name)
        _add(layers, name.removesuffix(ending), {role: value})
    lrn = None
    for layer in net["layers"]:
        if isinstance(layer, dict) and layer.get("type") == "dagnn.LRN":
            lrn = _lrn_convention((layer.get("block") or {}).get("param"))
    return layers, lrn


def _add(layers: dict[str, Layer], name: str, arrays: dict[str, Any]) -> None:
    for role, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise Malformed(f"the {role} of {name} is no array")
        if role in layers.setdefault(name, {}):
            raise Malformed(f"it holds the {role} of {name} twice")
        if role == "bias":
            array = array.reshape(-1)  # a row or a column in MATLAB
        layers[name][role] = in_memory(array)


def _mean(net: dict[str, Any]) -> Rgb | None:
    """averageImage, three numbers or an image of them, in the file's order of channels."""
    meta = net["meta"] if isinstance(net.get("meta"), dict) else net
    normalization = meta.get("normalization")
    image = normalization.get("averageImage") if isinstance(normalization, dict) else None
    if not isinstance(image, np.ndarray) or not image.size:
        return None
    mean = image.reshape(-1) if image.size == 3 else image.mean(axis=(0, 1)) if image.ndim == 3 else image
    if mean.shape != (3,) or not np.isfinite(mean).all():
        raise Malformed(f"its averageImage has shape {list(image.shape)}, but three finite numbers are expected")
    return float(mean[0]), float(mean[1]), float(mean[2])


def _lrn_convention(param: Any) -> str:
    """The convention of [size, kappa, alpha, beta]; MatConvNet does not divide alpha."""
    if not isinstance(param, np.ndarray) or param.size != 4:
        raise Malformed("its LRN has not the four numbers size, kappa, alpha, beta")
    return lrn_convention(*param.astype(np.float64).reshape(-1).tolist())
