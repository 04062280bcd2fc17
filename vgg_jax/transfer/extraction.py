"""Extraction: the descriptors of a data set's images, streamed to a store for each net and scale."""

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vgg_jax.data.pipeline import rescaled_images
from vgg_jax.data.sources import Source
from vgg_jax.errors import InputError
from vgg_jax.eval.dataset import loaded_ahead
from vgg_jax.eval.evaluation import DataSet
from vgg_jax.eval.identity import set_identity
from vgg_jax.eval.nets import Net, read_net
from vgg_jax.eval.programs import BUCKET
from vgg_jax.eval.protocol import Member
from vgg_jax.features import check_layers
from vgg_jax.images.decode import image_size
from vgg_jax.images.rescale import rescaled_size
from vgg_jax.model import VGG, map_side
from vgg_jax.progress import progress_bar
from vgg_jax.transfer.descriptors import descriptors
from vgg_jax.transfer.store import opened_store, stored_records, write_part
from vgg_jax.weights.load import load_stage

PART = 64  # records in a file of the store; also what is held in memory at once

Stores = dict[tuple[str, int], Path]  # by layer and scale
Missing = dict[tuple[str, int], set[int]]  # records, by layer and scale


class Wanted(NamedTuple):
    """What is extracted: layers of a net, of images rescaled to each smallest side Q."""

    weights: Path  # a file, or WORKDIR/STAGE
    layers: tuple[str, ...]
    scales: tuple[int, ...]


def extract(wanted: Wanted, data: DataSet, records: Sequence[int] | np.ndarray, features: Path) -> Stores:
    """The stores below ``features`` that hold the descriptors of the records, computing what is missing there.

    An image is decoded once for all scales, and a scale is computed once for all layers. Raises InputError as
    `descriptors`, for an unreadable image, for a scale at which a layer has no position, and for a store that was made
    with other settings.
    """
    net = read_net(Member(wanted.weights, wanted.scales))
    layers = check_layers(net.model.arch, wanted.layers)
    _check_scales_fit(net.model, layers, wanted.scales)
    folder = features / f"{net.name}-{net.digest[:10]}"
    stores = {
        (layer, scale): folder / f"{layer.replace('/', '-')}-Q{scale}" for layer in layers for scale in wanted.scales
    }
    with contextlib.ExitStack() as held:
        for (layer, scale), store in sorted(stores.items()):  # one order for all, or two might wait for each other
            held.enter_context(opened_store(store, _identity(net, layer, scale, data)))
        needed = {int(record) for record in records}
        missing = {key: needed - set(stored_records(store).tolist()) for key, store in stores.items()}
        if any(missing.values()):
            _compute(wanted, net, data, stores, missing)
    return stores


def _check_scales_fit(model: VGG, layers: Sequence[str], scales: Sequence[int]) -> None:
    for layer, scale in itertools.product(layers, scales):
        if map_side(model, layer, scale) < 1:
            raise InputError(
                f"scale {scale} is too small for {layer}: give a larger smallest side, or an earlier layer"
            )


def _identity(net: Net, layer: str, scale: int, data: DataSet) -> dict[str, Any]:
    return {"weights": net.digest, "layer": layer, "scale": scale, **set_identity(data.source, data.name, data.split)}


def _compute(wanted: Wanted, net: Net, data: DataSet, stores: Stores, missing: Missing) -> None:
    """Compute and store what is missing, a part at a time."""
    model, params, _ = load_stage(wanted.weights)
    of_scale = {q: set().union(*(missing[layer, q] for layer in wanted.layers)) for q in wanted.scales}
    scales = [scale for scale, records in of_scale.items() if records]
    ordered = _by_padded_size(data.source, sorted(set().union(*of_scale.values())), max(scales))
    parts = [ordered[start : start + PART] for start in range(0, len(ordered), PART)]

    def load(index: int) -> dict[int, list[np.ndarray]]:
        loaded = rescaled_images(data.source, scales, parts[index], threads=data.threads)
        return {record: images for record, _, images in loaded if images is not None}

    total = sum(map(len, of_scale.values()))
    description = f"{model.arch} {net.name} {'+'.join(wanted.layers)} Q={','.join(map(str, scales))}"
    with progress_bar(total=total, unit="img", desc=description) as bar:
        for _, loaded in loaded_ahead(load, range(len(parts))):
            for position, scale in enumerate(scales):
                records = [record for record in loaded if record in of_scale[scale]]
                images = [loaded[record][position] for record in records]
                values = descriptors(model, params, images, wanted.layers, advance=bar.update) if images else {}
                for layer, of_layer in values.items():
                    rows = [row for row, record in enumerate(records) if record in missing[layer, scale]]
                    if rows:
                        write_part(stores[layer, scale], [records[row] for row in rows], of_layer[rows])


def _by_padded_size(source: Source, records: Sequence[int], scale: int) -> list[int]:
    """Records in the order of the padded sizes of their images, so that batches are full; headers alone are decoded."""

    def padded_size(index: int) -> tuple[int, int]:
        record = source[index]
        height, width = rescaled_size(*image_size(record.image, record.name), scale)
        return -(-height // BUCKET), -(-width // BUCKET)

    return sorted(records, key=padded_size)
