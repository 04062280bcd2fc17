"""How other programs name and lay out a VGG, as data: one row a program, beside our own names."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from vgg_jax.architectures import FC_LAYERS, blocks_of, layer_names

Rgb = tuple[float, float, float]

PAPER_MEAN: Rgb = (123.68, 116.779, 103.939)
TORCH_MEAN: Rgb = (0.485 * 255, 0.456 * 255, 0.406 * 255)
TORCH_STD: Rgb = (0.229 * 255, 0.224 * 255, 0.225 * 255)
# torchvision's features-only VGG-16 (VGG16_Weights.IMAGENET1K_FEATURES), the authors' net; its std is 1 / 255 of 0..1
TORCH_FEATURES_MEAN: Rgb = (0.48235 * 255, 0.45882 * 255, 0.40784 * 255)
ONE: Rgb = (1.0, 1.0, 1.0)


class Convention(NamedTuple):
    """A program's names, layouts and preprocessing.

    kernel: "HWIO" with [in, out] for fc layers, or "OIHW" with [out, in]. flatten: the order of fc6's input, "HWC" or
    "CHW". pool_rounding: what the program's pools do with an odd side. names: net -> the file's names of our
    `layer_names`; None where layers are known by their order alone. windows: our fc layers whose kernels have four
    sides, as those of convolutions.
    """

    kernel: str
    flatten: str
    input_order: str
    mean_rgb: Rgb
    std_rgb: Rgb
    pool_rounding: str
    names: Callable[[str], tuple[str, ...]] | None
    windows: tuple[str, ...] = ()


def _keras_names(arch: str) -> tuple[str, ...]:
    convolutions = (layer.name.removeprefix("conv").split("_") for block in blocks_of(arch) for layer in block)
    return (*(f"block{block}_conv{index}" for block, index in convolutions), "fc1", "fc2", "predictions")


def _torch_features(arch: str) -> tuple[str, ...]:
    """features.N: N counts convolutions, ReLUs and pools."""
    names, position = [], 0
    for block in blocks_of(arch):
        names += [f"features.{position + 2 * i}" for i in range(len(block))]
        position += 2 * len(block) + 1
    return tuple(names)


def _torchvision_names(arch: str) -> tuple[str, ...]:
    return (*_torch_features(arch), "classifier.0", "classifier.3", "classifier.6")


def _timm_names(arch: str) -> tuple[str, ...]:
    return (*_torch_features(arch), "pre_logits.fc1", "pre_logits.fc2", "head.fc")


# fmt: off
CONVENTIONS = {
    "vgg_jax":     Convention("HWIO", "HWC", "RGB", PAPER_MEAN, ONE, "floor", layer_names),
    "caffe":       Convention("OIHW", "CHW", "BGR", PAPER_MEAN, ONE, "ceil", layer_names),
    "keras":       Convention("HWIO", "HWC", "BGR", PAPER_MEAN, ONE, "floor", _keras_names),
    "matconvnet":  Convention("HWIO", "HWC", "BGR", PAPER_MEAN, ONE, "floor", layer_names),
    "torchvision": Convention("OIHW", "CHW", "RGB", TORCH_MEAN, TORCH_STD, "floor", _torchvision_names),
    "timm":        Convention("OIHW", "CHW", "RGB", TORCH_MEAN, TORCH_STD, "floor", _timm_names, ("fc6", "fc7")),
    "onnx":        Convention("OIHW", "CHW", "RGB", TORCH_MEAN, TORCH_STD, "floor", None),
}
# fmt: on


def recognise_names(names: Iterable[str]) -> str | None:
    """The key of CONVENTIONS whose names these layers have, or None; "caffe" for ours too, which are the same."""
    names = set(names)
    if any(name.startswith("features.") for name in names):
        return "timm" if any(name.startswith(("pre_logits.", "head.")) for name in names) else "torchvision"
    if any(name.startswith("block1_conv") for name in names):
        return "keras"
    return "caffe" if "conv1_1" in names or names & set(FC_LAYERS) else None
