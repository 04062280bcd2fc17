import numpy as np
import pytest
from onnx_reference import reference
from test_model import MEAN, narrow, photographs, random_params
from tolerances import ANOTHER_PROGRAM, assert_close

from vgg_jax import InputError
from vgg_jax.eval import centre_crop_eval, multi_crop_eval
from vgg_jax.images.rescale import rescale


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def posteriors(params, crops):
    return softmax(reference("A", params, np.stack(crops), mean_rgb=MEAN))


def test_multi_crop_is_the_mean_of_the_grids_posteriors():
    """Spelled out: 5x5 crops at round(i (H - 32) / 4), with flips, soft-max each, mean a scale, mean over scales."""
    model = narrow("A", crop_size=32)
    params, image = random_params(model), photographs((50, 71, 3))
    per_scale = []
    for q in (37, 45):
        view = rescale(image, q)
        tops = [round(i * (view.shape[0] - 32) / 4) for i in range(5)]
        lefts = [round(i * (view.shape[1] - 32) / 4) for i in range(5)]
        crops = [view[t : t + 32, x : x + 32] for t in tops for x in lefts]
        crops += [crop[:, ::-1] for crop in crops]
        assert len(crops) == 50
        per_scale.append(posteriors(params, crops).mean(0))
    ours = multi_crop_eval(model, params, [image], scales=(37, 45))
    assert ours.dtype == np.float32
    assert_close(ours[0], np.mean(per_scale, axis=0), ANOTHER_PROGRAM)


def test_centre_crop():
    model = narrow("A", crop_size=32)
    params, images = random_params(model), photographs((2, 41, 60, 3))
    expected = posteriors(params, images[:, round(4.5) : round(4.5) + 32, 14:46])
    assert_close(centre_crop_eval(model, params, images), expected, ANOTHER_PROGRAM)


def test_an_image_smaller_than_the_crop_is_named():
    model = narrow("A", crop_size=32)
    images = [np.zeros((40, 40, 3), np.uint8), np.zeros((31, 40, 3), np.uint8)]
    with pytest.raises(InputError, match="image 1 is 31x40, smaller than the crop of 32x32"):
        multi_crop_eval(model, random_params(model), images)
    with pytest.raises(InputError, match="grid is 1"):
        multi_crop_eval(model, random_params(model), images, grid=1)
