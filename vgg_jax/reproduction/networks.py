"""What follows from the nets alone: Tables 1 and 2, and section 2.3's weights and receptive fields."""

import math
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.architectures import ARCHITECTURES, FC_CHANNELS, ConvLayer, layer_names
from vgg_jax.model import VGG
from vgg_jax.reproduction.manifest import TABLE_2

Record = dict[str, Any]


def parameter_count(arch: str, num_classes: int = 1000, width_multiplier: float = 1.0, crop_size: int = 224) -> int:
    """Weights and biases of a net, counted on its parameters without computing any."""
    model = VGG(arch, num_classes=num_classes, width_multiplier=width_multiplier, crop_size=crop_size)
    images = jax.ShapeDtypeStruct((1, crop_size, crop_size, 3), jnp.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def table_1() -> Record:
    """The configurations of the nets, a net a row."""
    columns = ["net", "weight layers", *(f"block {i}" for i in range(1, 6)), "fully connected"]
    fully_connected = f"FC-{FC_CHANNELS}, FC-{FC_CHANNELS}, FC-1000"
    rows = [
        [arch, len(layer_names(arch)), *(" ".join(map(_layer_text, block)) for block in blocks), fully_connected]
        for arch, blocks in ARCHITECTURES.items()
    ]
    return {
        "id": "table1",
        "caption": "Table 1: ConvNet configurations",
        "columns": [{"name": name, "kind": "number" if name == "weight layers" else "text"} for name in columns],
        "rows": rows,
        "archs": [[arch] for arch in ARCHITECTURES],
        "notes": [
            "The paper has a net a column. A 2x2 max-pool follows each block, soft-max the last layer, and a ReLU "
            "every layer but it. B-5x5 is the twin of B from section 4.1.",
        ],
    }


def _layer_text(layer: ConvLayer) -> str:
    return f"conv{layer.kernel}-{layer.channels}" + (" LRN" if layer.lrn else "")


def table_2(num_classes: int, width_multiplier: float, crop_size: int) -> Record:
    """Numbers of parameters: the paper's, ours at full size, and those of the nets that were run, where they differ."""
    small = (num_classes, width_multiplier, crop_size)
    columns = ["paper (millions)", "here, 1000 classes", "here, as run"]
    rows = [[arch, TABLE_2.get(arch), parameter_count(arch), parameter_count(arch, *small)] for arch in ARCHITECTURES]
    shown = len(rows[0]) - (small == (1000, 1.0, 224))
    return {
        "id": "table2",
        "caption": "Table 2: number of parameters",
        "columns": [{"name": "net", "kind": "text"}, *({"name": name, "kind": "number"} for name in columns)][:shown],
        "rows": [row[:shown] for row in rows],
        "archs": [[arch] for arch in ARCHITECTURES],
        "notes": ["Counted on the nets as they are built, biases included. The paper does not list B-5x5."],
    }


def receptive_field(*kernels: int) -> int:
    """Side of the field of a stack of convolutions of stride 1: how far one input pixel is felt."""
    return int(np.count_nonzero(reduce(np.convolve, [np.ones(kernel) for kernel in kernels])))


def stack_weights(channels: int, *kernels: int) -> int:
    """Weights of a stack of convolutions with as many input as output channels, without biases."""
    return sum(kernel * kernel * channels * channels for kernel in kernels)


def exact_claims() -> list[Record]:
    """The claims of section 2 that need no training, and the one of section 3.3 about the authors' machine."""
    channels = 512
    three, one = stack_weights(channels, 3, 3, 3), stack_weights(channels, 7)
    fields = receptive_field(3, 3), receptive_field(3, 3, 3)
    millions = {arch: round(parameter_count(arch) / 1e6) for arch in TABLE_2}
    return [
        _exact("parameters", "2.2", "The nets have 133, 133, 133, 134, 138 and 144 million parameters",
               millions == TABLE_2, ", ".join(f"{arch} {count}" for arch, count in millions.items())),
        _exact("fields", "2.3", "Two 3x3 layers see a 5x5 field, three a 7x7 one",
               fields == (5, 7), f"{fields[0]}x{fields[0]} and {fields[1]}x{fields[1]}"),
        _exact("weights", "2.3", "Three 3x3 layers have 27 C^2 weights, one 7x7 layer 49 C^2: 81% more",
               (three, one) == (27 * channels**2, 49 * channels**2) and round(100 * (one / three - 1)) == 81,
               f"{three // channels**2} C^2 and {one // channels**2} C^2: {100 * (one / three - 1):.1f}% more"),
        _record("time", "3.3", "A net trains 2-3 weeks on four Titan Black GPUs, 3.75 times as fast as on one",
                "not run", "it is a measurement of that machine"),
    ]  # fmt: skip


def _exact(name: str, section: str, text: str, holds: bool, details: str) -> Record:
    return _record(name, section, text, "holds" if holds else "does not hold", details)


def _record(name: str, section: str, text: str, verdict: str, details: str) -> Record:
    figures = {"difference": None, "standard_error": None, "paper_difference": None}
    return {"id": name, "section": section, "text": text, "verdict": verdict, **figures, "details": details}
