import numpy as np
import pytest

from vgg_jax import InputError
from vgg_jax.transfer.splits import hold_out, random_split

NAMES = ("ant", "bee", "cow")
LABELS = np.repeat(np.arange(3, dtype=np.int32), (31, 40, 200))
PAPER = {"train_images": 30, "test_images": 50}


def test_counts_are_the_papers_and_no_image_is_on_both_sides():
    split = random_split(LABELS, NAMES, 0, **PAPER)
    assert np.bincount(LABELS[split.train]).tolist() == [30, 30, 30]
    assert np.bincount(LABELS[split.test]).tolist() == [1, 10, 50]
    both = np.concatenate([split.train, split.test])
    assert len(np.unique(both)) == len(both) == 151


def test_the_seed_and_the_number_make_the_split():
    drawn = [
        random_split(LABELS, NAMES, number, seed=seed, **PAPER) for seed, number in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert all(np.array_equal(*pair) for pair in zip(drawn[0], drawn[1], strict=True))
    assert len({split.train.tobytes() for split in drawn}) == len({split.test.tobytes() for split in drawn}) == 3


def test_fewer_test_images_are_a_part_of_more():
    few, many = (random_split(LABELS, NAMES, 0, train_images=30, test_images=n) for n in (15, 50))
    assert np.array_equal(few.train, many.train)
    assert set(few.test) < set(many.test)


def test_a_fifth_of_each_class_is_held_out():
    labels = np.repeat(np.arange(3), (30, 10, 2))
    held_out = hold_out(labels)
    assert np.bincount(labels[held_out]).tolist() == [6, 2, 1]
    assert not np.array_equal(held_out, hold_out(labels, seed=1))


@pytest.mark.parametrize(
    ("train_images", "test_images", "sentence"),
    [
        (31, 50, "class ant has 31 images, but 31 to train and at least 1 to test are needed"),
        (1, 50, "1 training and 50 test images a class were asked for"),
        (30, 0, "30 training and 0 test images a class were asked for"),
    ],
)
def test_bad_input_gives_one_sentence(train_images, test_images, sentence):
    with pytest.raises(InputError, match=sentence):
        random_split(LABELS, NAMES, 0, train_images=train_images, test_images=test_images)
