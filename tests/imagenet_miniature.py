"""ImageNet's tars and development kit in miniature, with the inner layout of the real ones."""

import io
import itertools
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat

from vgg_jax.data.imagenet import prepare_imagenet

# The kit's ids 1..5 are not in WordNet order; 6 and 7 are ancestors.
WNID_OF_ID = {1: "n03000003", 2: "n01000001", 3: "n05000005", 4: "n02000002", 5: "n04000004"}
WORDS = {"n01000001": "one, uno", "n02000002": "two", "n03000003": "three", "n04000004": "four", "n05000005": "five"}
LABEL_OF_WNID = {"n01000001": 0, "n02000002": 1, "n03000003": 2, "n04000004": 3, "n05000005": 4}
VAL_IDS = [5, 1, 4, 2, 3, 3, 2]
VAL_LABELS = [3, 2, 1, 0, 4, 4, 0]  # by hand
NUM_IMAGES = {"train": 15, "val": 7, "test": 4}
_SEEDS = itertools.count()


def encoded(mode="RGB", file_format="JPEG"):
    image = Image.fromarray(np.random.default_rng(next(_SEEDS)).integers(0, 256, (16, 20, 3), dtype=np.uint8))
    file = io.BytesIO()
    image.convert(mode).save(file, file_format)
    return file.getvalue()


def tar_of(files, mode="w"):
    """The bytes of a tar of {name: contents}."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
    return file.getvalue()


def kit_tar(val_ids=VAL_IDS, without=()):
    rows = [(i, wnid, WORDS[wnid], 0) for i, wnid in WNID_OF_ID.items()]
    rows += [(6, "n00000006", "thing", 3), (7, "n00000007", "entity", 2)]
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, dtype=fields).reshape(-1, 1)})
    files = {
        "ILSVRC2012_devkit_t12/readme.txt": b"",
        "ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(
            f"{i}\n" for i in val_ids
        ).encode(),
    }
    return tar_of({name: data for name, data in files.items() if not name.endswith(without)}, "w:gz")


def draw_pictures():
    """{split: {file name: contents}} in the order of the tars."""
    train = {f"{wnid}_{i * 7}.JPEG": encoded() for wnid in WNID_OF_ID.values() for i in range(3)}
    train["n01000001_7.JPEG"] = encoded("CMYK")
    train["n04000004_0.JPEG"] = encoded(file_format="PNG")
    train["n02000002_14.JPEG"] = encoded()[:400]
    val = {f"ILSVRC2012_val_{i:08d}.JPEG": encoded("L" if i == 2 else "RGB") for i in (3, 1, 2, 7, 6, 5, 4)}
    val["ILSVRC2012_val_00000006.JPEG"] = b"not a picture"
    test = {f"test/ILSVRC2012_test_{i:08d}.JPEG": encoded() for i in (2, 1, 4, 3)}
    return {"train": train, "val": val, "test": test}


def write_originals(folder, pictures):
    """Write the tars and the kit under their real names."""
    synsets = {
        f"{wnid}.tar": tar_of({name: data for name, data in pictures["train"].items() if name.startswith(wnid)})
        for wnid in WNID_OF_ID.values()
    }
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_of(synsets))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_of(pictures["val"]))
    (folder / "ILSVRC2012_img_test_v10102019.tar").write_bytes(tar_of(pictures["test"]))
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(kit_tar())


def tars_in(folder):
    return {
        "train": folder / "ILSVRC2012_img_train.tar",
        "val": folder / "ILSVRC2012_img_val.tar",
        "test": folder / "ILSVRC2012_img_test_v10102019.tar",
    }


def prepare(folder, output, **changes):
    options = {"num_images": NUM_IMAGES, "num_classes": 5, "images_per_shard": 4, "threads": 2}
    options |= {"tars": tars_in(folder), "devkit": folder / "ILSVRC2012_devkit_t12.tar.gz"} | changes
    return prepare_imagenet(output=output, **options)
