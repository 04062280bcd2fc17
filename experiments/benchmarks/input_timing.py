"""What input_pipeline.py measures: sides that take turns, as rows of images/s and ratios."""

import dataclasses
import io
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import input_peers
import numpy as np
from interleave import speedup
from PIL import Image

from vgg_jax.data.pipeline import training_batches
from vgg_jax.data.sources import Record
from vgg_jax.errors import InputError
from vgg_jax.images.crop import random_view
from vgg_jax.images.decode import open_image
from vgg_jax.images.decoders import DECODERS
from vgg_jax.images.rescale import rescale, rescaled_size

JITTER = (256, 512)  # the range of S in the pipelines
CROP, BATCH = 224, 32
CORES = len(os.sched_getaffinity(0))
CEILING = "decoding alone"

Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Files:
    """Encoded images in memory, as a source of one class."""

    images: tuple[bytes, ...]
    class_names: tuple[str, ...] = ("any",)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Record:
        return Record(self.images[index], 0, self.location(index))

    def location(self, index: int) -> str:
        """For messages."""
        return f"image {index}"


def ordinary_files(folder: Path) -> tuple[bytes, ...]:
    """The upright JPEGs of a folder: torchvision does not turn the others."""
    found = (file.read_bytes() for file in sorted(folder.rglob("*")) if file.suffix.lower() in (".jpg", ".jpeg"))
    files = tuple(data for data in found if open_image(data).decode_jpeg() is not None)
    if not files:
        raise InputError(f"--data_path={folder} holds no JPEG files: name a folder of photographs")
    return files


def in_turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each side in each of the turns."""
    turns = [{name: side() for name, side in sides.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in sides}


def rows_of(what: str, seconds: dict[str, list[float]], images: int, size: float, peer: str) -> Rows:
    """A row a side; size: bytes of a mean file."""
    rates = {name: images / statistics.median(times) for name, times in seconds.items()}
    return [
        {
            **{"what": what, "side": name, "images_per_s": rate, "megabytes_per_s": rate * size / 1e6},
            **{"of_ceiling": speedup(seconds, name, CEILING), "against": peer, "ratio": speedup(seconds, name, peer)},
        }
        for name, rate in rates.items()
    ]


def cpu_time(function: Callable[..., Any], *arguments: Iterable[Any]) -> Callable[[], float]:
    """Seconds of CPU, of all threads, for the function of each."""

    def measured() -> float:
        start = time.process_time()
        for each in zip(*arguments, strict=True):
            function(*each)
        return time.process_time() - start

    return measured


def peer_of_one_core() -> tuple[str, Callable[..., Any]]:
    """torchvision, or what stands for it."""
    if input_peers.HAS_TORCHVISION:
        return "torchvision", input_peers.torchvision_view
    return "torchvision's calls of PIL", input_peers.pil_view


def one_core(files: Sequence[bytes], scale: tuple[int, int], rounds: int) -> Rows:
    """Training views on one core, with the mean difference from PIL's pixels."""
    encoded = [open_image(data) for data in files]
    views = [random_view(np.random.default_rng(i), *image.size, scale, CROP) for i, image in enumerate(encoded)]
    peer, peer_view = peer_of_one_core()
    paths: dict[str, Callable[..., Any]] = {peer: peer_view}
    if input_peers.HAS_TENSORFLOW:
        paths["tf.image"] = input_peers.tensorflow_view
    for decoder, make in DECODERS.items():
        paths[decoder] = lambda data, view, crop, make=make: make(open_image(data), view, crop)
    sides = {side: cpu_time(lambda d, v, path=path: path(d, v, CROP), files, views) for side, path in paths.items()}
    sides[CEILING] = cpu_time(lambda data: open_image(data).decode_jpeg(), files)
    size = sum(map(len, files)) / len(files)
    rows = rows_of(f"one core, S={scale[0]}..{scale[1]}", in_turns(sides, rounds), len(files), size, peer)
    expected = [input_peers.pil_view(*each, CROP).astype(float) for each in zip(files, views, strict=True)]
    for row in rows:
        if row["side"] in DECODERS:
            pixels = [paths[row["side"]](*each, CROP) for each in zip(files, views, strict=True)]
            row["grey_levels"] = float(np.mean([np.abs(a - b).mean() for a, b in zip(pixels, expected, strict=True)]))
    return rows


def evaluation(files: Sequence[bytes], sides: tuple[int, ...], rounds: int) -> Rows:
    """Several smallest sides Q of an image from one decoding, against a decoding for each; one core."""

    def separately(data: bytes) -> None:
        for side in sides:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            height, width = rescaled_size(image.height, image.width, side)
            np.array(image.resize((width, height), Image.Resampling.BILINEAR))

    def together(data: bytes) -> None:
        image = open_image(data).decode()
        for side in sides:
            rescale(image, side)

    paths = {"PIL, a decoding each": separately, "one decoding": together}
    measured = {name: cpu_time(path, files) for name, path in paths.items()}
    measured[CEILING] = cpu_time(lambda data: open_image(data).decode_jpeg(), files)
    what = f"one core, Q={','.join(map(str, sides))}"
    size = sum(map(len, files)) / len(files)
    return rows_of(what, in_turns(measured, rounds), len(files), size, "PIL, a decoding each")


def batches_time(make: Callable[[], Any], count: int) -> Callable[[], float]:
    """Seconds for `count` batches once the pipeline runs."""

    def measured() -> float:
        batches = make()
        for _ in range(4):  # processes have started, and what was made meanwhile is taken
            next(batches)
        start = time.perf_counter()
        for _ in range(count):
            next(batches)
        seconds = time.perf_counter() - start
        getattr(batches, "close", lambda: None)()
        return seconds

    return measured


def pipeline(files: Sequence[bytes], count: int, **options: Any) -> Callable[[], float]:
    """Seconds of `training_batches`."""
    fields = {"scale": JITTER, "crop_size": CROP, "batch_size": BATCH, "seed": 0}
    return batches_time(lambda: training_batches(Files(tuple(files)), **{**fields, **options}), count)


def all_cores(files: Sequence[bytes], rounds: int, count: int) -> Rows:
    """Threads and processes on all cores, S in [256;512]."""
    sides = {"exact, 1 thread": pipeline(files, count, threads=1)}
    for decoder in DECODERS:
        sides[f"{decoder}, {CORES} threads"] = pipeline(files, count, decoder=decoder, threads=CORES)
        sides[f"{decoder}, {CORES} workers"] = pipeline(files, count, decoder=decoder, threads=CORES, workers=CORES)
    peer = "exact, 1 thread"
    if input_peers.HAS_TORCHVISION:
        peer = f"torch DataLoader, {CORES} workers"
        sizes = [open_image(data).size for data in files]
        views = input_peers.Views(files, sizes, JITTER, CROP)
        sides[peer] = batches_time(lambda: input_peers.torch_batches(views, BATCH, CORES), count)
    decode = [open_image(data) for data in files]
    images = count * BATCH

    def decoding() -> float:
        with ThreadPoolExecutor(CORES) as pool:
            start = time.perf_counter()
            for _ in pool.map(lambda i: decode[i % len(decode)].decode_jpeg(), range(images)):
                pass
            return time.perf_counter() - start

    sides[CEILING] = decoding
    size = sum(map(len, files)) / len(files)
    return rows_of(f"{CORES} cores, S={JITTER[0]}..{JITTER[1]}", in_turns(sides, rounds), images, size, peer)
