"""ONNX, written node by node: a VGG is ten kinds of them. Needs the onnx package, and onnxruntime to run a file."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from vgg_jax._version import __version__
from vgg_jax.architectures import FC_LAYERS, blocks_of
from vgg_jax.errors import InputError
from vgg_jax.eval.dense import Params
from vgg_jax.export.files import check_size, write_bytes
from vgg_jax.export.program import Program, make_program
from vgg_jax.layers import LRN_BETA, LRN_CHANNELS, LRN_CONVENTIONS
from vgg_jax.model import VGG
from vgg_jax.weights.fields import model_fields

OPSET, IR_VERSION = 13, 7  # of 2020: the nodes here mean the same ever since, and old runtimes take them
INPUT = "images"
_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def export_onnx(
    path: str | Path,
    model: VGG,
    params: Params,
    *,
    form: str = "crop",
    layout: str = "NHWC",
    classes: Sequence[str] | None = None,
) -> None:
    """Write a net as ONNX. It takes float32 RGB 0..255 and normalises them itself; `load_weights` reads it again.

    form, layout: as in `export_stablehlo`; the input is named "images", the output "logits", "scores" or "features".
    classes: names of the classes, kept in the metadata, which are strings: "model" (JSON of the model's fields),
        "form", "input" (in words), "versions" and "classes" (JSON).
    An existing file is replaced, at once. Raises InputError as `export_stablehlo` does, for another number of class
    names than the model's, and without the onnx package.
    """
    onnx = _import("onnx", path)
    program = make_program(model, params, form, layout)
    check_size(path, program.params)
    if classes is not None and len(classes) != model.num_classes:
        raise InputError(f"there are {len(classes)} class names for {path}, but the model has {model.num_classes}")
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in ((INPUT, _input_shape(program)), (program.form.output, _output_shape(program)))
    ]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph([], f"VGG_{model.arch}_{form}", ends[:1], ends[1:]),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="vgg_jax",
        producer_version=__version__,
    )
    _add_nodes(_Chain(onnx, proto.graph), program)
    onnx.helper.set_model_props(proto, _metadata(model, form, layout, classes, onnx.__version__))
    write_bytes(path, proto.SerializeToString())


def load_onnx(path: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function in an ONNX file with one output, run by onnxruntime on the CPU."""
    runtime = _import("onnxruntime", path)
    session = runtime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0]


class _Chain:
    """A graph that grows by nodes of which each takes the output of the one before."""

    def __init__(self, onnx: ModuleType, graph: Any) -> None:
        self.onnx, self.graph, self.value = onnx, graph, INPUT

    def add(self, op: str, output: str, constants: dict[str, Any] | None = None, **attributes: Any) -> None:
        """Add a node, named as its output, whose further inputs are constants of these names."""
        for name, array in (constants or {}).items():
            # straight into the graph: an assembled one would be copied, and fc6 alone has 411 MB
            array = np.ascontiguousarray(array, np.float32)
            self.graph.initializer.append(self.onnx.numpy_helper.from_array(array, name))
        inputs = [self.value, *(constants or {})]
        self.graph.node.append(self.onnx.helper.make_node(op, inputs, [output], name=output, **attributes))
        self.value = output


def _add_nodes(chain: _Chain, program: Program) -> None:
    """The nodes of `VGG.activations`, in ONNX's order [N, C, H, W]."""
    model, params = program.model, program.params
    if program.layout == "NHWC":
        chain.add("Transpose", "images/NCHW", perm=_TO_NCHW)
    chain.add("Sub", "images/centred", {"mean_rgb": np.reshape(model.mean_rgb, (1, 3, 1, 1))})
    chain.add("Div", "images/normalised", {"std_rgb": np.reshape(model.std_rgb, (1, 3, 1, 1))})
    for number, block in enumerate(blocks_of(model.arch), start=1):
        for layer in block:
            _add_conv(chain, layer.name, params[layer.name], padding=layer.kernel // 2)
            chain.add("Relu", layer.name)
            if layer.lrn:
                k, alpha = LRN_CONVENTIONS[model.lrn]
                settings: dict[str, Any] = {
                    "size": LRN_CHANNELS,
                    "bias": k,
                    "alpha": alpha * LRN_CHANNELS,
                    "beta": LRN_BETA,
                }
                chain.add("LRN", f"{layer.name}/lrn", **settings)  # ONNX divides alpha by the number of channels
        ceil_mode = int(model.pool_rounding == "ceil")
        chain.add("MaxPool", f"pool{number}", kernel_shape=(2, 2), strides=(2, 2), ceil_mode=ceil_mode)
    if program.form.layer == "fc8":
        _add_fc_layers(chain, program)
    if program.form.any_size and program.layout == "NHWC":
        chain.add("Transpose", f"{program.form.layer}/NHWC", perm=_TO_NHWC)
    chain.graph.node[-1].output[0] = program.form.output


def _add_fc_layers(chain: _Chain, program: Program) -> None:
    if not program.form.any_size:
        chain.add("Transpose", "pool5/NHWC", perm=_TO_NHWC)  # fc6 takes its input in H, W, C order
        chain.add("Flatten", "pool5/flat")
    for name in FC_LAYERS:
        layer = program.params[name]
        if program.form.any_size:
            _add_conv(chain, name, layer, padding=0)
        else:
            chain.add("Gemm", f"{name}/pre", {f"{name}.weight": layer["kernel"], f"{name}.bias": layer["bias"]})
        if name != FC_LAYERS[-1]:
            chain.add("Relu", name)


def _add_conv(chain: _Chain, name: str, layer: dict[str, jax.Array], padding: int) -> None:
    kernel = np.asarray(layer["kernel"])  # [H, W, in, out]
    constants = {f"{name}.weight": kernel.transpose(3, 2, 0, 1), f"{name}.bias": layer["bias"]}
    chain.add("Conv", f"{name}/pre", constants, kernel_shape=kernel.shape[:2], pads=(padding,) * 4)


def _input_shape(program: Program) -> list[int | str]:
    height, width = ("H", "W") if program.form.any_size else (program.model.crop_size,) * 2
    return ["N", height, width, 3] if program.layout == "NHWC" else ["N", 3, height, width]


def _output_shape(program: Program) -> list[int | str]:
    last = program.form.layer if program.form.layer in program.params else list(program.params)[-1]
    channels = int(program.params[last]["bias"].shape[0])
    if not program.form.any_size:
        return ["N", channels]
    return ["N", "h", "w", channels] if program.layout == "NHWC" else ["N", channels, "h", "w"]


def _metadata(model: VGG, form: str, layout: str, classes: Sequence[str] | None, onnx_version: str) -> dict[str, str]:
    versions = {"vgg_jax": __version__, "jax": jax.__version__, "onnx": onnx_version}
    metadata = {
        "model": json.dumps(model_fields(model)),
        "form": form,
        "input": f"float32 {layout}, RGB, values 0..255; mean and std are applied inside",
        "versions": json.dumps(versions),
    }
    return metadata if classes is None else {**metadata, "classes": json.dumps(list(classes))}


def _import(name: str, path: str | Path) -> Any:
    try:
        return __import__(name)
    except ImportError as reason:
        raise InputError(f"{path} is ONNX, which needs {name}: pip install 'vgg_jax[export]'") from reason
