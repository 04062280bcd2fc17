"""The known releases of VGG's weights as data, with the errors that were published for them and how they were measured.

Nothing is fetched here: `vgg_jax.weights.fetch` does so when it is asked to.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vgg_jax.errors import InputError
from vgg_jax.report import Row, markdown_table


class Published(NamedTuple):
    """Errors in percent on ILSVRC-2012's validation set under one protocol; None where none was published."""

    method: str  # as in a row of results
    scales: tuple[int, ...]
    flip: bool
    top1_error: float | None
    top5_error: float | None
    source: str


class Release(NamedTuple):
    """A weights file that somebody published.

    sha256: of the file, or as many of its first digits as are known; None if unknown. sha256_from: who says so.
    """

    arch: str
    address: str
    licence: str
    sha256: str | None
    sha256_from: str | None
    published: tuple[Published, ...]
    note: str = ""


_DENSE = ("dense", (384,), True)
_DENSE_3 = ("dense", (256, 384, 512), True)
_CENTRE = ("centre_crop", (256,), False)
_NOTES = "release notes (top-5); Tables 3 and 4 of the paper (top-1)"
_KERAS_TABLE = "table of keras-applications"
_TORCH_TABLE = "torchvision's metadata of these weights"
_MATCONVNET_TABLE = "MatConvNet's table of pretrained models"
_ZOO = "Open Model Zoo, models/public"
_TORCH_NAME = "the file's own name, as torch.hub checks it"

_CC_BY = "CC-BY-4.0"
_BSD = "BSD-3-Clause (of the library)"

_AUTHORS = "http://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_{}_layers.caffemodel"
_MATCONVNET = "http://www.vlfeat.org/matconvnet/models/imagenet-vgg-verydeep-{}.mat"
_KERAS = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg{0}/vgg{0}_weights_tf_dim_ordering_tf_kernels.h5"
)
_TORCH = "https://download.pytorch.org/models/{}.pth"
_TIMM = "https://huggingface.co/timm/{}.tv_in1k/resolve/main/model.safetensors"

# errors of torchvision's and timm's files, which hold the same weights
_TORCH_ERRORS = {"A": (30.98, 11.372), "B": (30.072, 10.754), "D": (28.408, 9.618), "E": (27.624, 9.124)}


def _authors(number: int, arch: str, sha256: str, single: tuple[float, float], three: tuple[float, float]) -> Release:
    published = (Published(*_DENSE, *single, _NOTES), Published(*_DENSE_3, *three, _NOTES))
    note = "evaluate with --pool_rounding=ceil, Caffe's; an improved version of the competition's nets"
    return Release(arch, _AUTHORS.format(number), _CC_BY, sha256, _ZOO, published, note)


def _torchvision(arch: str, file: str, note: str = "") -> Release:
    published = (Published(*_CENTRE, *_TORCH_ERRORS[arch], _TORCH_TABLE),)
    return Release(arch, _TORCH.format(file), _BSD, file.split("-")[1], _TORCH_NAME, published, note)


def _timm(arch: str, name: str) -> Release:
    published = (Published(*_CENTRE, *_TORCH_ERRORS[arch], f"{_TORCH_TABLE}, which timm repacked"),)
    return Release(arch, _TIMM.format(name), "BSD-3-Clause", None, None, published)


def _converted(arch: str, address: str, errors: tuple[float, float], source: str) -> Release:
    """The authors' nets in another program's format."""
    return Release(arch, address, _CC_BY, None, None, (Published(*_CENTRE, *errors, source),))


RELEASES: Mapping[str, Release] = {
    "caffe_d": _authors(
        16, "D", "a6196bc498e45ea4cb2637114ae8db9410cf1556fd60a55ae93272371beba197", (25.6, 8.1), (24.8, 7.5)
    ),
    "caffe_e": _authors(
        19, "E", "31b4c627c40c6ee151325f079b7ac557fddbd1f79af932888796127a4f4f6954", (25.5, 8.0), (24.8, 7.5)
    ),
    "matconvnet_d": _converted("D", _MATCONVNET.format(16), (28.5, 9.9), _MATCONVNET_TABLE),
    "matconvnet_e": _converted("E", _MATCONVNET.format(19), (28.7, 9.9), _MATCONVNET_TABLE),
    "keras_d": _converted("D", _KERAS.format(16), (28.73, 9.95), _KERAS_TABLE),
    "keras_e": _converted("E", _KERAS.format(19), (28.74, 10.01), _KERAS_TABLE),
    "torchvision_a": _torchvision("A", "vgg11-8a719046"),
    "torchvision_b": _torchvision("B", "vgg13-19584684"),
    "torchvision_d": _torchvision("D", "vgg16-397923af"),
    "torchvision_e": _torchvision("E", "vgg19-dcbb9e9d"),
    "torchvision_d_features": Release(
        *("D", _TORCH.format("vgg16_features-amdegroot-88682ab5"), _BSD, "88682ab5", _TORCH_NAME, ()),
        note="convolutions alone, for features",
    ),
    "timm_a": _timm("A", "vgg11"),
    "timm_b": _timm("B", "vgg13"),
    "timm_d": _timm("D", "vgg16"),
    "timm_e": _timm("E", "vgg19"),
}


def find_release(name: str) -> Release:
    """The release by its name; an unknown one raises InputError with the known ones."""
    if name not in RELEASES:
        raise InputError(f"no release {name!r} is known: choose one of {', '.join(RELEASES)}")
    return RELEASES[name]


def beside_published(rows: Sequence[Row], name: str) -> str:
    """Ours beside the published errors of a release, a line a published protocol, as Markdown.

    A protocol that none of the rows has says by which flags of evaluate.py it is measured.
    """
    release = find_release(name)
    if not release.published:
        return f"no errors were published for {name}"
    header = ["published for " + name, "top-1", "ours", "difference", "top-5", "ours", "difference", "images", "source"]
    lines = []
    for published in release.published:
        row = next((row for row in rows if _same_protocol(row, published) and row["arch"] == release.arch), None)
        cells = [*_cells(published.top1_error, row, "top1_error"), *_cells(published.top5_error, row, "top5_error")]
        images = str(row["num_images"]) if row else f"not run: {_flags(published)}"
        lines.append([_words(published), *cells, images, published.source])
    return markdown_table(header, lines) + (f"\n\n{name}: {release.note}" if release.note else "")


def _same_protocol(row: Row, published: Published) -> bool:
    ours = (row["method"], tuple(row["test_scales"] or ()), row["flip"])
    return ours == (published.method, published.scales, published.flip)


def _cells(theirs: float | None, row: Row | None, field: str) -> list[str]:
    ours = row[field] if row else None
    difference = "-" if ours is None or theirs is None else f"{ours - theirs:+.2f}"
    return ["-" if theirs is None else f"{theirs:.2f}", "-" if ours is None else f"{ours:.2f}", difference]


def _words(published: Published) -> str:
    return f"{published.method}, Q={','.join(map(str, published.scales))}{', flip' if published.flip else ''}"


def _flags(published: Published) -> str:
    scales = ",".join(map(str, published.scales))
    return f"--protocol={published.method} --scales={scales}{'' if published.flip else ' --noflip'}"
