import pytest

from vgg_jax import InputError
from vgg_jax.data.folder import folder_source
from vgg_jax.transfer.links import link_split
from vgg_jax.transfer.splits import random_split


def test_the_links_are_the_split(pictures, tmp_path):
    source = folder_source(str(pictures), "train", val_fraction=0.0)
    split = random_split(source.labels, source.class_names, 1, train_images=5, test_images=3)
    link_split(source, split, tmp_path / "split")
    parts = {part: folder_source(str(tmp_path / "split"), part) for part in ("train", "val", "test")}
    assert {part: len(linked) for part, linked in parts.items()} == {"train": 16, "val": 4, "test": 12}
    images = {part: {linked[i].image for i in range(len(linked))} for part, linked in parts.items()}
    assert images["train"] | images["val"] == {source[i].image for i in split.train}
    assert images["test"] == {source[i].image for i in split.test}
    assert parts["test"].labels.tolist() == source.labels[split.test].tolist()
    with pytest.raises(InputError, match="split exists: give another folder"):
        link_split(source, split, tmp_path / "split")
