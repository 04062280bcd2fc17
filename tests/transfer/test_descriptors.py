import numpy as np
import pytest
from onnx_reference import reference
from test_model import MEAN, narrow, photographs, random_params
from tolerances import ANOTHER_PROGRAM, assert_close

from vgg_jax import InputError
from vgg_jax.transfer.descriptors import POOLS, VIEWS, descriptors

LAYERS = ("conv2_1/pre", "conv5_2", "pool5", "fc7")
SIZES = ((49, 71), (63, 90))  # padded to one size


@pytest.mark.parametrize("pool_rounding", ["floor", "ceil"])
def test_pooled_as_of_the_unpadded_image_and_its_mirror_image(pool_rounding):
    model = narrow("A", pool_rounding=pool_rounding, crop_size=32, width_multiplier=0.03)
    params, images = random_params(model), [photographs((*size, 3), seed) for seed, size in enumerate(SIZES)]
    bias = params["conv2_1"]["bias"]
    params["conv2_1"]["bias"] = bias.at[0].add(-1000.0)  # below the zeros of the padding
    ours = descriptors(model, params, images, LAYERS, batch_size=1)
    assert ours["conv2_1/pre"][..., 0].max() < 0
    assert list(ours) == list(LAYERS)
    options = {"mean_rgb": MEAN, "dense": True, "pool_rounding": pool_rounding, "layers": LAYERS}
    for index, image in enumerate(images):
        for view, pixels in zip(VIEWS, (image, image[:, ::-1]), strict=True):
            maps = reference("A", params, pixels[None], **options)
            for name in LAYERS:
                pooled = ours[name][index, VIEWS.index(view)]
                assert pooled.dtype == np.float32
                assert_close(pooled[POOLS.index("mean")], maps[name][0].mean((0, 1)), ANOTHER_PROGRAM)
                assert_close(pooled[POOLS.index("max")], maps[name][0].max((0, 1)), ANOTHER_PROGRAM)


def test_of_a_convolutional_body_up_to_pool5():
    model = narrow("A")
    body = {name: layer for name, layer in random_params(model).items() if name.startswith("conv")}
    images = [photographs((40, 65, 3))]
    assert descriptors(model, body, images, ("pool5",), batch_size=1)["pool5"].shape == (1, 2, 2, 26)
    with pytest.raises(InputError, match="params lack fc6, fc7, needed for fc7"):
        descriptors(model, body, [photographs((64, 65, 3))], ("fc7",))
    with pytest.raises(InputError, match="image 0 is 40x65, too small for fc7"):
        descriptors(model, body, images, ("fc7",))
