"""What a decoder does to a trained net: pool5 of VGG-16's convolutions on its views, beside those of PIL's own.

python experiments/benchmarks/decoder_features.py --weights=FILE [--data_path=DIR] [--json=FILE]

The same random views (S in [256;512], crop 224) three times: PIL decodes, resizes and cuts out (the reference), and by
each of `data.decoder`. The error is the norm of the difference of the features over that of the reference's. For
comparison, the same photographs stored once more as JPEG of quality 95. 32 photographs take 2 minutes on 2 cores.
"""

import io
import os
from pathlib import Path

import numpy as np
from absl import app, flags
from input_peers import pil_view
from input_timing import CROP, JITTER, ordinary_files
from PIL import Image
from record import write_record

from vgg_jax import features
from vgg_jax.images.crop import random_view
from vgg_jax.images.decode import open_image
from vgg_jax.images.decoders import DECODERS
from vgg_jax.weights import load_weights

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("VGG_JAX_DATA", REPOSITORY.parent / "shared" / "data"))

WEIGHTS = flags.DEFINE_string("weights", str(DATA / "vgg16_conv_body.npz"), "A net, or its convolutions.")
DATA_PATH = flags.DEFINE_string("data_path", str(DATA / "imagenet_sample"), "Folder of JPEGs, searched to any depth.")
LIMIT = flags.DEFINE_integer("limit", 32, "Number of photographs.", 1)
JSON = flags.DEFINE_string("json", None, "File for the figures.")


def stored_again(data: bytes) -> bytes:
    """A photograph as a JPEG of quality 95."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def main(_: object) -> None:
    """Measure, print, write."""
    model, params = load_weights(WEIGHTS.value)
    files = ordinary_files(Path(DATA_PATH.value))[: LIMIT.value]
    encoded = [open_image(data) for data in files]
    views = [random_view(np.random.default_rng(i), *image.size, JITTER, CROP) for i, image in enumerate(encoded)]
    sides = {"PIL": [pil_view(data, view, CROP) for data, view in zip(files, views, strict=True)]}
    for name, decode in DECODERS.items():
        sides[name] = [decode(image, view, CROP) for image, view in zip(encoded, views, strict=True)]
    again = map(stored_again, files)
    sides["PIL, stored again at quality 95"] = [pil_view(data, view, CROP) for data, view in zip(again, views)]
    pixels = {name: np.stack(images).astype(np.float32) for name, images in sides.items()}
    maps = {name: np.asarray(features(model, params, images, ("pool5",))["pool5"]) for name, images in pixels.items()}
    rows = []
    for name in list(sides)[1:]:
        difference = (maps[name] - maps["PIL"]).reshape(len(files), -1)
        error = np.linalg.norm(difference, axis=1) / np.linalg.norm(maps["PIL"].reshape(len(files), -1), axis=1)
        grey = float(np.abs(pixels[name] - pixels["PIL"]).mean())
        rows.append(
            {"side": name, "grey_levels": grey, "pool5_error": float(error.mean()), "worst": float(error.max())}
        )
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in rows[-1].items()})
    if JSON.value:
        write_record(JSON.value, rows, {f"{row['side']}: pool5 error": row["pool5_error"] for row in rows})


if __name__ == "__main__":
    app.run(main)
