"""ImageNet's tars in miniature, with the inner layout of the real ones, against what was put in."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).parents[2]

# The kit's ids 1..5 are not in WordNet order; 6 and 7 are ancestors.
WNID_OF_ID = {1: "n03000003", 2: "n01000001", 3: "n05000005", 4: "n02000002", 5: "n04000004"}
WORDS = {wnid: f"word {wnid[-1]}, another word" for wnid in WNID_OF_ID.values()}
LABEL_OF_WNID = {"n01000001": 0, "n02000002": 1, "n03000003": 2, "n04000004": 3, "n05000005": 4}
VAL_IDS = [5, 1, 4, 2, 3, 3, 2]
NUM_IMAGES = {"train": 15, "val": 7, "test": 4}


def encoded(seed, mode="RGB", file_format="JPEG", size=(20, 16)):
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, len(mode)), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(), mode=None).resize(size).save(file, file_format) if mode != "CMYK" else (
        Image.merge("CMYK", [Image.fromarray(pixels[..., i]) for i in range(4)]).resize(size).save(file, file_format)
    )
    return file.getvalue()
