"""The prediction file of ILSVRC for a split whose labels are held back: five classes a line, the best first."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np

from vgg_jax.eval.evaluation import DataSet, Evaluated
from vgg_jax.eval.stored import fused_parts
from vgg_jax.report import ROW_KEY, Row, write_atomically

logger = logging.getLogger(__name__)

FIVE = 5


def _digest(row: Row) -> str:
    """Short, and another one for whatever else gives a protocol its own row: flip, rounding, seed, members, ..."""
    protocol = json.dumps([row.get(field) for field in ROW_KEY])
    return hashlib.sha256(protocol.encode()).hexdigest()[:8]


def write_predictions(evaluated: Evaluated, folder: Path, data: DataSet) -> Path:
    """Write FOLDER/predictions/....txt, a line an image in record order, and return its path.

    Classes are their ILSVRC2012_ID where the data set has ``ilsvrc_ids`` (its labels run over sorted WordNet ids, which
    the server does not take), else 1-based positions in classes.txt. An unreadable image gets the classes 1 to 5.
    """
    ids = getattr(data.source, "ilsvrc_ids", None)
    lines = []
    for part in fused_parts(evaluated.folders):
        best = np.argsort(-part.posteriors, axis=1, kind="stable")[:, :FIVE]
        best[~part.readable] = np.arange(best.shape[1])
        lines += [" ".join(str(ids[label] if ids else label + 1) for label in row) for row in best]
    row = evaluated.row
    scales = row["test_scales"] or sorted({q for member in row["members"] for q in member["test_scales"]})
    name = f"{data.split}-{row['arch'].replace(' ', '')}-{row['stage'] or 'fusion'}-{row['method']}-Q"
    path = folder / "predictions" / f"{name}{'_'.join(map(str, scales))}-{_digest(row)}.txt"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, "\n".join(lines) + "\n")
    numbers = "ILSVRC2012_IDs" if ids else "positions in classes.txt, from 1: the server takes ILSVRC2012_IDs"
    logger.info("%s holds the predictions; classes are %s", path, numbers)
    return path
