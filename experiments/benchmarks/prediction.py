"""Closed-form prediction of a data-parallel step on many GPUs, from bytes, bandwidths and operations; nothing measured.

An exchange of an array of `size` bytes over n GPUs, in nodes of g, is a sum and a gathering, which take turns on the
same wires. By rings each pass puts size (n-1)/n on every link of the ring, so that many through a node's network cards
together. All-to-all sends each GPU's slices straight to their owners: the same bytes a GPU, but all of those for other
nodes, g size (n-g)/n, leave the node by its cards. In two levels the slices are summed inside the node first, so that
size (N-1)/N leave one of N nodes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from vgg_jax import VGG
from vgg_jax.architectures import FC_LAYERS
from vgg_jax.model import map_side
from vgg_jax.training.state import params_shapes


class Machine(NamedTuple):
    """GPUs and wires, in bytes a second and one direction: H100 SXM, eight a node."""

    node: int = 8  # GPUs
    nvlink: float = 450e9  # a GPU's
    card: float = 50e9  # a network card's, 400 Gb/s
    cards: int = 1  # a node
    memory: float = 3350e9  # a GPU's own
    latency: float = 10e-6  # seconds of a sum or gathering, times log2 of the GPUs; assumed

    def network(self) -> float:
        """Bytes a second that leave a node."""
        return self.cards * self.card


class Layer(NamedTuple):
    """Numbers of parameters, of multiplications an image forward, of inputs an image."""

    name: str
    parameters: int
    multiply_adds: int
    inputs: int


class Way(NamedTuple):
    """How gradients are summed: the sum's and the gathering's wires, bytes an element, fc layers split over GPUs."""

    name: str
    exchange: str = "ordered"  # ordered | ring | two_level
    width: int = 4
    overlap: bool = True
    sharded: bool = False


RATE = 4000.0  # images a second of net D on one GPU at bfloat16 and batch 256: the goal, 38% of 989 TFLOP/s
BATCH = 256
PASSES = 8  # over float32 parameters a step: read twice; gradient and velocity written and read, both updated, written
ACTIVATION = 2  # bytes of an activation, bfloat16


def layers_of(model: VGG) -> list[Layer]:
    """A net's layers from the input to fc8."""
    layers = []
    for name, layer in params_shapes(model).items():
        kernel = layer["kernel"].shape
        positions = map_side(model, name, model.crop_size) ** 2
        parameters = math.prod(kernel) + math.prod(layer["bias"].shape)
        inputs = kernel[-2] if name in FC_LAYERS else positions * kernel[-2]
        layers.append(Layer(name, parameters, math.prod(kernel) * positions, inputs))
    return layers


def pass_seconds(size: float, gpus: int, machine: Machine) -> float:
    """Of a gathering, or of a sum of which each GPU keeps its slice, by rings; size in bytes of the whole."""
    wire = machine.nvlink if gpus <= machine.node else min(machine.nvlink, machine.network())
    return size * (gpus - 1) / gpus / wire + _latency(gpus, machine)


def all_to_all_seconds(size: float, gpus: int, machine: Machine) -> float:
    """Each GPU sends every other one its slice; what stays in the node and what leaves it travel at the same time."""
    near = min(gpus, machine.node)
    inside = size * (near - 1) / gpus / machine.nvlink
    outside = near * size * (gpus - near) / gpus / machine.network()
    return max(inside, outside) + _latency(gpus, machine)


def exchange_seconds(kind: str, size: float, gpus: int, machine: Machine) -> float:
    """Of sum and gathering together: "ordered" is all-to-all and rings, "ring" rings, "two_level" nodes first."""
    if gpus == 1:
        return 0.0
    if kind == "two_level" and gpus > machine.node:
        nodes = gpus // machine.node
        inside = pass_seconds(size, machine.node, machine)
        outside = size * (nodes - 1) / nodes / machine.network() + _latency(nodes, machine)
        return 2 * (inside + outside)
    first = pass_seconds if kind == "ring" else all_to_all_seconds
    return first(size, gpus, machine) + pass_seconds(size, gpus, machine)


def _latency(gpus: int, machine: Machine) -> float:
    return machine.latency * math.log2(gpus) if gpus > 1 else 0.0


def finished(ready: Sequence[float], seconds: Sequence[float]) -> float:
    """When the last of several exchanges on one wire ends; each starts when it is ready and the one before is done."""
    end = 0.0
    for start, length in zip(ready, seconds, strict=True):
        end = max(end, start) + length
    return end


def step_seconds(layers: Sequence[Layer], images: float, gpus: int, way: Way, machine: Machine) -> float:
    """Of a step with `images` on each of `gpus`; a layer's exchange is ready when the backward pass has left it.

    Arithmetic has the utilisation of batch 256 at any batch, which flatters small ones; the passes over the parameters
    do not shrink with the batch.
    """
    split = [way.sharded and layer.name in FC_LAYERS for layer in layers]
    held = sum(layer.parameters / (gpus if apart else 1) for layer, apart in zip(layers, split))
    all_parameters = sum(layer.parameters for layer in layers)
    an_image = 1 / RATE - PASSES * 4 * all_parameters / machine.memory / BATCH
    compute = images * an_image + PASSES * 4 * held / machine.memory
    if way.sharded:
        wide = images * gpus * ACTIVATION * sum(layer.inputs for layer, apart in zip(layers, split) if apart)
        compute += 2 * pass_seconds(wide, gpus, machine) if gpus > 1 else 0.0  # gathered; their gradients summed
    backward = 2 * images * an_image / 3 / sum(layer.multiply_adds for layer in layers)
    ready, seconds, left = [], [], sum(layer.multiply_adds for layer in layers)
    for layer, apart in reversed(list(zip(layers, split))):
        left -= layer.multiply_adds
        if not apart:
            ready.append(compute - left * backward if way.overlap else compute)
            seconds.append(exchange_seconds(way.exchange, way.width * layer.parameters, gpus, machine))
    return max(compute, finished(ready, seconds))


def efficiency(
    layers: Sequence[Layer], gpus: int, way: Way, machine: Machine, *, batch: int | None = None, images: int = BATCH
) -> float:
    """Images a second of n GPUs over n times one's: `batch` images in all (strong), or `images` on each (weak)."""
    one = step_seconds(layers, batch or images, 1, way, machine)
    share = batch / gpus if batch else images
    return one * share / ((batch or images) * step_seconds(layers, share, gpus, way, machine))


def sharding_pays_below(layers: Sequence[Layer], width: int) -> float:
    """The batch in all below which gathering activations moves fewer bytes than the fc layers' gradients do."""
    fc = [layer for layer in layers if layer.name in FC_LAYERS]
    return width * sum(layer.parameters for layer in fc) / (ACTIVATION * sum(layer.inputs for layer in fc))
