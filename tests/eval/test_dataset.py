import numpy as np
import pytest
from test_model import narrow, photographs, random_params

from vgg_jax import InputError
from vgg_jax.eval import centre_crop_eval, dense_eval, multi_crop_eval, top_k_errors
from vgg_jax.eval.dataset import compute_part, loaded_ahead, set_errors, view_posteriors
from vgg_jax.eval.programs import set_rows
from vgg_jax.eval.protocol import View
from vgg_jax.eval.stored import Part

MODEL = narrow("A", crop_size=32, num_classes=8)
DENSE = View("dense", 40, True, "floor")


def records(count, unreadable=()):
    for i in range(count):
        image = photographs((40 + i % 3, 45, 3), seed=i)
        yield (i, -1, None) if i in unreadable else (i, i % 8, [image])


def part(first, count, labels=None, readable=None, num_classes=8):
    rng = np.random.default_rng(first)
    labels = np.arange(count, dtype=np.int32) % 8 if labels is None else labels
    readable = np.ones(count, bool) if readable is None else readable
    return Part(np.arange(first, first + count), labels, readable, rng.random((count, num_classes), np.float32))


@pytest.mark.parametrize(
    ("method", "reference"),
    [("dense", dense_eval), ("multi_crop", multi_crop_eval), ("centre_crop", centre_crop_eval)],
)
def test_views_over_eight_devices_are_those_of_one(method, reference):
    params, done = random_params(MODEL), []
    view = DENSE._replace(method=method, flip=method != "centre_crop")
    posteriors_of = view_posteriors(MODEL, params)
    ((found, ours),) = compute_part(posteriors_of, list(records(5, unreadable=(2,))), {view: 0}, 8, done.append)
    assert found == view
    images = [images[0] for _, _, images in records(5) if images is not None]
    expected = reference(MODEL, params, images)
    np.testing.assert_allclose(ours.posteriors[ours.readable], expected[[0, 1, 3, 4]], atol=1e-6)
    assert np.isnan(ours.posteriors[2]).all() and ours.readable.tolist() == [True, True, False, True, True]
    assert sum(done) == pytest.approx(5)


def test_errors_are_sums_and_counts_over_parts():
    parts = [part(0, 5), part(5, 7), part(12, 1)]
    errors = set_errors(parts, 13)
    probs, labels = (np.concatenate([getattr(p, field) for p in parts]) for field in ("posteriors", "labels"))
    expected = top_k_errors(probs, labels)
    assert (errors.top1_error, errors.top5_error) == pytest.approx((expected[1], expected[5]))
    np.testing.assert_array_equal(errors.wrong[1], probs.argmax(1) != labels)
    recalls = [100.0 * np.mean([p.argmax() == c for p, label in zip(probs, labels) if label == c]) for c in range(7)]
    assert errors.mean_class_recall == pytest.approx(np.mean(recalls)) and errors.mean_class_recall != pytest.approx(
        100.0 - errors.top1_error
    )


def test_unreadable_and_unlabelled_images():
    readable = np.array([True, False, True, True])
    errors = set_errors([part(0, 4, labels=np.array([0, -1, 2, -1]), readable=readable)], 4)
    assert (errors.num_images, errors.skipped, len(errors.wrong[1])) == (3, [1], 2)
    errors = set_errors([part(0, 3, labels=np.full(3, -1))], 3)
    assert (errors.top1_error, errors.top5_error, errors.mean_class_recall, errors.num_images) == (None, None, None, 3)


def test_each_image_must_come_exactly_once():
    with pytest.raises(AssertionError, match="5 records were to be evaluated"):
        set_errors([part(0, 4)], 5)
    with pytest.raises(AssertionError, match="twice"):
        set_errors([part(0, 4), part(3, 4)], 7)


def test_parts_are_loaded_in_order_one_ahead():
    loaded = []
    for index, value in loaded_ahead(lambda i: loaded.append(i) or 10 * i, [3, 1, 2]):
        assert value == 10 * index and len(loaded) <= [3, 1, 2].index(index) + 2
    assert loaded == [3, 1, 2] and not list(loaded_ahead(lambda i: i, []))


def test_bad_input_gives_one_sentence():
    with pytest.raises(InputError, match="label 8 lies outside the net's 8 classes"):
        list(compute_part(lambda *_: None, [(0, 8, [np.zeros((40, 40, 3), np.uint8)])], {DENSE: 0}, 8, lambda n: None))
    with pytest.raises(InputError, match="no image of the split could be read"):
        set_errors([part(0, 2, readable=np.zeros(2, bool))], 2)


def test_batches_of_a_set_depend_on_the_shape_alone():
    assert [set_rows(*shape) for shape in ((64, 64), (128, 192), (256, 384), (384, 512), (512, 704))] == [
        16,
        16,
        4,
        2,
        1,
    ]
    assert set_rows(1024, 1024) == 1
