"""Rows of results: nets and representations on random splits of a data set -> mean class recall (appendix B)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vgg_jax.data.folder import FolderSource
from vgg_jax.eval.evaluation import DataSet
from vgg_jax.eval.nets import read_net
from vgg_jax.eval.protocol import Member
from vgg_jax.metrics import class_recalls
from vgg_jax.progress import progress_bar
from vgg_jax.report import Row
from vgg_jax.transfer.extraction import Stores, Wanted, extract
from vgg_jax.transfer.representation import Representation, check_representation, represent
from vgg_jax.transfer.splits import Split, random_split
from vgg_jax.transfer.store import read_descriptors
from vgg_jax.transfer.svm import COSTS, fit
from vgg_jax.weights.load import HUB_FILES

# What tells one row from another; a new row with the same key replaces the old one.
ROW_KEY = (
    *("dataset", "weights", "digests", "layer", "pool", "scales", "combine", "flip"),
    *("splits", "seed", "train_images", "test_images"),
)
_CONFUSIONS = 10  # pairs of classes in a row


class Protocol(NamedTuple):
    """Random splits: how many, and how many images of each class; the defaults are the paper's for Caltech-101."""

    splits: int = 3
    train_images: int = 30
    test_images: int = 50  # at most
    seed: int = 0


def evaluate_transfer(
    weights: Sequence[Path],
    source: FolderSource,
    representations: Sequence[Representation],
    protocol: Protocol,
    features: Path,
    *,
    threads: int = 8,
) -> Iterator[Row]:
    """One row for each representation of each net, and of all nets stacked; the last layer of none of them is used.

    weights: files, or WORKDIR/STAGE. source: all images of a data set, to draw splits from. features: folder of the
    stores, where descriptors that are there are not computed again. The SVM's regularisation is chosen in each split on
    part of its training images. Recalls in percent; their deviation over the splits is that of a sample (n - 1).
    Raises InputError for bad representations and too few images of a class, and as `extract`.
    """
    for representation in representations:
        check_representation(representation)
    draw = protocol._asdict()
    numbers = range(draw.pop("splits"))
    splits = [random_split(source.labels, source.class_names, number, **draw) for number in numbers]
    layers = tuple(dict.fromkeys(representation.layer for representation in representations))
    scales = tuple(dict.fromkeys(scale for representation in representations for scale in representation.scales))
    data = DataSet(source, Path(source.root).name, "all", threads=threads)
    records = np.unique(np.concatenate([np.concatenate(split) for split in splits]))
    stores = {path: extract(Wanted(path, layers, scales), data, records, features) for path in weights}
    groups = [[path] for path in stores] + ([list(stores)] if len(stores) > 1 else [])
    total = len(groups) * len(representations) * len(splits) * (len(COSTS) + 1)
    with progress_bar(total=total, unit="fit", desc="linear SVM") as bar:
        for representation in representations:
            for group in groups:
                nets = [stores[path] for path in group]
                results = [_on_split(nets, source, representation, split, bar.update) for split in splits]
                yield {
                    "dataset": data.name,
                    "weights": [shown_name(path) for path in group],
                    "digests": [read_net(Member(path, scales)).digest[:10] for path in group],
                    **representation._asdict(),
                    **protocol._asdict(),
                    "num_train": len(splits[0].train),
                    "num_test": [len(split.test) for split in splits],
                    **_summary(results, source.class_names),
                }


def shown_name(path: Path) -> str:
    """WORKDIR/STAGE of a stage, a file's name without its ending; of the hub's form the folder's name."""
    path = path.resolve()
    if path.is_dir():
        return path.name if any((path / name).is_file() for name in HUB_FILES) else f"{path.parent.name}/{path.name}"
    return path.parent.name if path.name in HUB_FILES else path.name.partition(".")[0]


class _Result(NamedTuple):
    """Of one split."""

    labels: np.ndarray  # of the test images
    predicted: np.ndarray
    cost: float
    dimensions: int


def _on_split(
    nets: Sequence[Stores], source: FolderSource, representation: Representation, split: Split, advance: Any
) -> _Result:
    """Fit on the training images, predict the test images."""

    def vectors(records: np.ndarray) -> np.ndarray:
        of_nets = [
            [read_descriptors(stores[representation.layer, scale], records) for scale in representation.scales]
            for stores in nets
        ]
        return represent(of_nets, representation)

    train = vectors(split.train)
    fitted = fit(train, source.labels[split.train], advance=advance)
    return _Result(source.labels[split.test], fitted.predict(vectors(split.test)), fitted.cost, train.shape[1])


def _summary(results: Sequence[_Result], class_names: Sequence[str]) -> dict[str, Any]:
    of_splits = np.stack([class_recalls(r.labels, r.predicted == r.labels) for r in results])  # [splits, classes]
    recalls = of_splits.mean(axis=1)
    wrong = Counter(
        (class_names[label], class_names[predicted])
        for result in results
        for label, predicted in zip(result.labels, result.predicted)
        if label != predicted
    )
    return {
        "dimensions": results[0].dimensions,
        "costs": [result.cost for result in results],
        "recalls": recalls.round(3).tolist(),
        "mean_class_recall": round(float(recalls.mean()), 3),
        "deviation": round(float(recalls.std(ddof=1)), 3) if len(results) > 1 else None,
        "class_recalls": dict(zip(class_names, of_splits.mean(axis=0).round(1).tolist())),
        "confusions": [[*pair, count] for pair, count in wrong.most_common(_CONFUSIONS)],
    }
