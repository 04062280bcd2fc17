"""Table 1 of the paper as data: one row a net.

A row reads from the input to the classifier; ``|`` is a 2x2 max-pool (the last one stands before the fully connected
layers). ``conv3-64`` is a 3x3 convolution with 64 channels, stride 1, padded to keep the size, followed by a ReLU.
"""

from typing import NamedTuple

from vgg_jax.errors import InputError


class ConvLayer(NamedTuple):
    """One convolution of a net: its name (``conv{block}_{index}``), kernel side, channels, and whether LRN follows."""

    name: str
    kernel: int
    channels: int
    lrn: bool = False


Blocks = tuple[tuple[ConvLayer, ...], ...]

FC_CHANNELS = 4096  # fc6 and fc7 of every net
FC_LAYERS = ("fc6", "fc7", "fc8")

# fmt: off
_TABLE_1 = {
    "A":     "conv3-64          | conv3-128           | conv3-256 conv3-256                     | conv3-512 conv3-512                     | conv3-512 conv3-512",
    "A-LRN": "conv3-64 LRN      | conv3-128           | conv3-256 conv3-256                     | conv3-512 conv3-512                     | conv3-512 conv3-512",
    "B":     "conv3-64 conv3-64 | conv3-128 conv3-128 | conv3-256 conv3-256                     | conv3-512 conv3-512                     | conv3-512 conv3-512",
    "B-5x5": "conv5-64          | conv5-128           | conv5-256                               | conv5-512                               | conv5-512",  # sec. 4.1
    "C":     "conv3-64 conv3-64 | conv3-128 conv3-128 | conv3-256 conv3-256 conv1-256           | conv3-512 conv3-512 conv1-512           | conv3-512 conv3-512 conv1-512",
    "D":     "conv3-64 conv3-64 | conv3-128 conv3-128 | conv3-256 conv3-256 conv3-256           | conv3-512 conv3-512 conv3-512           | conv3-512 conv3-512 conv3-512",
    "E":     "conv3-64 conv3-64 | conv3-128 conv3-128 | conv3-256 conv3-256 conv3-256 conv3-256 | conv3-512 conv3-512 conv3-512 conv3-512 | conv3-512 conv3-512 conv3-512 conv3-512",
}
# fmt: on


def _parse_block(number: int, row: str) -> tuple[ConvLayer, ...]:
    layers: list[ConvLayer] = []
    for word in row.split():
        if word == "LRN":
            layers[-1] = layers[-1]._replace(lrn=True)
        else:
            kernel, channels = word.removeprefix("conv").split("-")
            layers.append(ConvLayer(f"conv{number}_{len(layers) + 1}", int(kernel), int(channels)))
    return tuple(layers)


ARCHITECTURES: dict[str, Blocks] = {
    arch: tuple(_parse_block(number, block) for number, block in enumerate(row.split("|"), start=1))
    for arch, row in _TABLE_1.items()
}

# The layers of net A that start the deeper nets: its first four convolutions and the fully connected ones (sec. 3.1).
# By position the shapes do not fit; by name they do.
PAPER_A_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", *FC_LAYERS)


def blocks_of(arch: str) -> Blocks:
    """The five blocks of convolutions of a net; an unknown name raises InputError with the known ones."""
    if arch not in ARCHITECTURES:
        raise InputError(f"unknown architecture {arch!r}: choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch]


def layer_names(arch: str) -> tuple[str, ...]:
    """Names of the layers that carry weights, from the input to fc8."""
    return (*(layer.name for block in blocks_of(arch) for layer in block), *FC_LAYERS)


def activation_names(arch: str) -> tuple[str, ...]:
    """Names of a net's activations from the input to fc8; ``/pre`` stands before the ReLU, the bare name after it."""
    names: list[str] = []
    for number, block in enumerate(blocks_of(arch), start=1):
        for layer in block:
            names += [f"{layer.name}/pre", layer.name]
        names.append(f"pool{number}")
    return (*names, "fc6/pre", "fc6", "fc7/pre", "fc7", "fc8")
