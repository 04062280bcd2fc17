"""An independent VGG: a graph of Conv, Relu, MaxPool, LRN and Gemm nodes, run by onnxruntime.

It is written from the paper's Table 1 with its own copy of the layers, and shares no code with vgg_jax.
"""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# channels and kernels of each block, "64" a 3x3 layer, "64/1" a 1x1 layer, "64/5" a 5x5 layer
TABLE = {
    "A": ["64", "128", "256 256", "512 512", "512 512"],
    "A-LRN": ["64", "128", "256 256", "512 512", "512 512"],
    "B": ["64 64", "128 128", "256 256", "512 512", "512 512"],
    "B-5x5": ["64/5", "128/5", "256/5", "512/5", "512/5"],
    "C": ["64 64", "128 128", "256 256 256/1", "512 512 512/1", "512 512 512/1"],
    "D": ["64 64", "128 128", "256 256 256", "512 512 512", "512 512 512"],
    "E": ["64 64", "128 128", "256 256 256 256", "512 512 512 512", "512 512 512 512"],
}
LRN = {"krizhevsky": {"alpha": 5e-4, "bias": 2.0}, "caffe": {"alpha": 1e-4, "bias": 1.0}}  # ONNX divides alpha by size


def reference(arch, params, images, *, mean_rgb, dense=False, pool_rounding="floor", lrn="krizhevsky", layers=()):
    """Logits [N, K], or score maps [N, h, w, K] (dense), of images [N, H, W, 3] by onnxruntime.

    layers: their activations instead, a dict of [N, h, w, C]; with dense only.
    """
    nodes, constants, named = [], [], {}
    value = "images"

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name

    def node(op, inputs, **attributes):
        nonlocal value
        output = f"{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        value = output

    node("Sub", [value, constant("mean", np.asarray(mean_rgb).reshape(1, 3, 1, 1))])
    channels = 3
    for block, row in enumerate(TABLE[arch], 1):
        for index, cell in enumerate(row.split(), 1):
            name = f"conv{block}_{index}"
            side = int(cell.split("/")[1]) if "/" in cell else 3
            kernel = np.asarray(params[name]["kernel"])
            assert kernel.shape[:3] == (side, side, channels), (name, kernel.shape)
            channels = kernel.shape[3]
            weight = constant(f"{name}_w", kernel.transpose(3, 2, 0, 1))
            bias = constant(f"{name}_b", params[name]["bias"])
            node("Conv", [value, weight, bias], kernel_shape=[side, side], pads=[side // 2] * 4)
            named[f"{name}/pre"] = value
            node("Relu", [value])
            named[name] = value
            if arch == "A-LRN" and name == "conv1_1":
                node("LRN", [value], size=5, beta=0.75, **LRN[lrn])
        node("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=int(pool_rounding == "ceil"))
        named[f"pool{block}"] = value
    window = round((params["fc6"]["kernel"].shape[0] / channels) ** 0.5)
    if not dense:
        node("Transpose", [value], perm=[0, 2, 3, 1])
        node("Flatten", [value])
    for name in ("fc6", "fc7", "fc8"):
        kernel, bias = np.asarray(params[name]["kernel"]), constant(f"{name}_b", params[name]["bias"])
        if dense:
            side = window if name == "fc6" else 1
            weight = kernel.reshape(side, side, -1, kernel.shape[1]).transpose(3, 2, 0, 1)
            node("Conv", [value, constant(f"{name}_w", weight), bias], kernel_shape=[side, side])
        else:
            node("Gemm", [value, constant(f"{name}_w", kernel), bias])
        if name != "fc8":
            named[f"{name}/pre"] = value
            node("Relu", [value])
        named[name] = value
    if dense:
        node("Transpose", [value], perm=[0, 2, 3, 1])
    outputs = [named[name] for name in layers] or [value]
    graph = helper.make_graph(
        nodes,
        "vgg",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 3, None, None])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(None, {"images": np.asarray(images, np.float32).transpose(0, 3, 1, 2)})
    return {name: maps.transpose(0, 2, 3, 1) for name, maps in zip(layers, results)} if layers else results[0]
