"""The built-in data set: JPEG pictures of ten kinds of objects, drawn on first use into ArrayRecord by TFDS.

It is there so that every command works without a download, and goes the same way as ImageNet. Objects come at widely
varying scale (25% to 90% of the picture's short side), position, rotation and colour, on gradients and textures, among
lines, dots and blobs; pictures have many sizes and aspect ratios, and some are grayscale. So scale jitter has something
to do. The object is always lighter than its background: with both signs at random, the mean picture of a kind is flat,
and plain narrow nets do not leave chance for many epochs.
"""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from filelock import FileLock
from PIL import Image, ImageDraw, ImageFilter

from vgg_jax.data.sources import Source
from vgg_jax.data.tfds import tfds_source

SEED = 2014
SPLIT_SIZES = {"train": 4000, "validation": 500, "test": 500}
SHORT_SIDE = (64, 112)  # pixels
MAX_ASPECT = 1.6
OBJECT_SIZE = (0.25, 0.9)  # diameter over the picture's short side
MIN_CONTRAST = 80  # grey levels that the object is lighter than the background
_SUPERSAMPLING = 4

LUMA = np.array([0.299, 0.587, 0.114])


def _arc(radius: float, start: float = 0.0, stop: float = 360.0, centre_x: float = 0.0) -> np.ndarray:
    angle = np.radians(np.linspace(start, stop, 49))
    return np.stack([centre_x + radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _star(points: int, inner: float) -> np.ndarray:
    angle = np.pi * np.arange(2 * points) / points
    radius = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 18.2


def _plus(arm: float) -> np.ndarray:
    a, b = arm, 0.97
    quarter = np.array([(b, a), (a, a), (a, b)])
    return np.concatenate([quarter, quarter[::-1] * (-1, 1), -quarter, quarter[::-1] * (1, -1)])


_ARROW = np.array([(1, 0), (0.15, 0.75), (0.15, 0.25), (-0.95, 0.25), (-0.95, -0.25), (0.15, -0.25), (0.15, -0.75)])
_HOURGLASS = np.array([(0.65, 0.75), (0.08, 0), (0.65, -0.75), (-0.65, -0.75), (-0.08, 0), (-0.65, 0.75)])

# Each kind: its outline [P, 2] in (about) the unit circle, and the outline of its hole, if any. No kind is a turned,
# scaled or mirrored copy of another.
KINDS: dict[str, tuple[np.ndarray, np.ndarray | None]] = {
    "arrow": (_ARROW, None),
    "crescent": (np.concatenate([_arc(1.0, 50, 310), _arc(0.78, 282, 78, 0.48)]), None),
    "cross": (_plus(0.26), None),
    "disc": (_arc(1.0), None),
    "heart": (_heart(), None),
    "hourglass": (_HOURGLASS, None),
    "ring": (_arc(1.0), _arc(0.58)),
    "square": (_star(2, 1.0), None),
    "star": (_star(5, 0.4), None),
    "triangle": (_star(3, 0.5), None),
}


def draw_picture(kind: str, rng: np.random.Generator) -> bytes:
    """Draw one JPEG picture of an object of this kind (a key of KINDS); everything else about it comes from `rng`."""
    short = int(rng.integers(SHORT_SIDE[0], SHORT_SIDE[1] + 1))
    long = round(short * rng.uniform(1.0, MAX_ASPECT))
    height, width = (short, long) if rng.random() < 0.4 else (long, short) if rng.random() < 0.5 else (short, short)

    ground_colour, object_colour = _contrasting_colours(rng)
    picture = _clutter(_textured(ground_colour, height, width, rng), ground_colour, rng)
    coverage = _coverage(kind, height, width, rng)[..., None]  # [H, W, 1]
    picture += coverage * (object_colour + _gradient(25.0, height, width, rng) - picture)
    picture += rng.normal(0.0, rng.uniform(0.0, 10.0), picture.shape)
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.1:
        image = image.convert("L")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(70, 96)))
    return file.getvalue()


def _contrasting_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    while True:
        ground, figure = rng.uniform(20, 235, (2, 3))
        if (figure - ground) @ LUMA >= MIN_CONTRAST:  # in grey, so that it stays visible in grayscale
            return ground, figure


def _gradient(amplitude: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A linear ramp of colour, [H, W, 3], zero in the middle."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (np.cos(angle) * x + np.sin(angle) * y)[..., None] * rng.uniform(-amplitude, amplitude, 3)


def _textured(colour: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A background [H, W, 3]: a colour with a ramp and stripes, coarse noise, or neither."""
    ground = colour + _gradient(25.0, height, width, rng)
    texture = rng.integers(3)
    if texture == 1:
        angle, wavelength = rng.uniform(0, np.pi), rng.uniform(5, 25)
        y, x = np.mgrid[:height, :width]
        wave = np.sin(2 * np.pi / wavelength * (np.cos(angle) * x + np.sin(angle) * y))
        ground += wave[..., None] * rng.uniform(-15, 15, 3)
    elif texture == 2:
        cells = rng.integers(4, 12, 2)
        noise = Image.fromarray(rng.normal(0, 14, cells).astype(np.float32))
        ground += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC))[..., None]
    return ground


def _clutter(picture: np.ndarray, ground_colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The background with soft blobs, thin lines and small dots of colours that differ less from it than the object."""
    height, width, _ = picture.shape
    short = min(height, width)
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))

    def colour() -> tuple[int, ...]:
        return tuple(int(c) for c in (ground_colour + rng.uniform(-60, 60, 3)).clip(0, 255))

    def disc_box(radius: float) -> list[float]:
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        return [x - radius, y - radius, x + radius, y + radius]

    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 4)):
        draw.ellipse(disc_box(rng.uniform(0.05, 0.2) * short), fill=colour())
    image = image.filter(ImageFilter.GaussianBlur(0.06 * short))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 5)):
        ends = rng.uniform((0, 0), (width, height), (2, 2))
        draw.line([tuple(end) for end in ends], fill=colour(), width=int(rng.integers(1, 3)))
    for _ in range(rng.integers(0, 9)):
        draw.ellipse(disc_box(rng.uniform(0.01, 0.03) * short), fill=colour())
    return np.asarray(image, dtype=np.float64)


def _coverage(kind: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """The share of each pixel that the object covers, [H, W] in 0..1: turned, mirrored, placed inside the picture."""
    radius = rng.uniform(*OBJECT_SIZE) * min(height, width) / 2
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    turn[:, 0] *= rng.choice((-1, 1))
    # Rather near the middle than at the edge, as photographers place things.
    centre = radius + rng.beta(2, 2, 2) * (np.array([width, height]) - 2 * radius)
    mask = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw = ImageDraw.Draw(mask)
    for outline, fill in zip(KINDS[kind], (255, 0), strict=True):
        if outline is not None:
            points = (outline @ turn.T * radius + centre) * _SUPERSAMPLING
            draw.polygon([tuple(point) for point in points], fill=fill)
    return np.asarray(mask.reduce(_SUPERSAMPLING), dtype=np.float64) / 255


class Shapes(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder of the pictures; it downloads nothing."""

    VERSION = tfds.core.Version("1.1.0")
    url_infos = None  # nothing is downloaded, and the search for checksums needs the package importlib_resources

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="JPEG pictures of ten kinds of objects at widely varying scale.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=list(KINDS)),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager
        return {split: self._generate_examples(split) for split in SPLIT_SIZES}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        kinds = list(KINDS)
        for index in range(SPLIT_SIZES[split]):
            label = index % len(kinds)
            rng = np.random.default_rng((SEED, list(SPLIT_SIZES).index(split), index))
            name = f"{split}_{index:05d}_{kinds[label]}.jpg"
            yield name, {"image": draw_picture(kinds[label], rng), "label": label, "file_name": name}


def shapes_source(path: str | Path, split: str) -> Source:
    """Open split train, val or test, drawing the data set into directory `path` first if it is not there yet.

    An empty path means the directory that the environment's VGG_JAX_CACHE names, else ~/.cache/vgg_jax. Several
    processes may start at once: one draws, the others wait. A killed drawing leaves nothing that is taken as whole.
    """
    cache = Path(path or os.environ.get("VGG_JAX_CACHE") or "~/.cache/vgg_jax").expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "shapes.lock"):  # the system frees it when its holder dies
        builder = Shapes(data_dir=str(cache), file_format="array_record")
        directory = Path(builder.data_path)
        if not directory.exists():
            for leftover in directory.parent.glob(f"{tfds.core.constants.INCOMPLETE_PREFIX}*"):
                shutil.rmtree(leftover)
            builder.download_and_prepare()  # draws beside the directory and renames at the end
    return tfds_source(directory, split)
