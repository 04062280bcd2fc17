import jax
import numpy as np
import pytest

from vgg_jax import VGG, InputError
from vgg_jax.architectures import FC_LAYERS, PAPER_A_LAYERS
from vgg_jax.weights import warm_start


def fresh(arch, seed=0, **fields):
    """Params of a narrow net, drawn by numpy: no compilation."""
    model = VGG(arch=arch, **{"num_classes": 4, "width_multiplier": 0.03, "crop_size": 32, **fields})
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8))["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.standard_normal(a.shape, np.float32), shapes)


def taken(params, donor):
    """Names of the layers whose arrays are the donor's, bit for bit."""
    same = {
        name: name in donor and jax.tree.all(jax.tree.map(np.array_equal, layer, donor[name]))
        for name, layer in params.items()
    }
    return {name for name, is_same in same.items() if is_same}


def unchanged(params, before):
    return taken(params, before)


@pytest.mark.parametrize("arch", ["B", "C", "D", "E"])
def test_deeper_nets_start_from_a_by_name(arch):
    params, donor = fresh(arch), fresh("A", seed=1)
    started = warm_start(params, donor, "paper_a")
    assert taken(started, donor) == set(PAPER_A_LAYERS)
    assert unchanged(started, params) == set(params) - set(PAPER_A_LAYERS)
    assert list(started) == list(params)


def test_all_layers():
    params, donor = fresh("D"), fresh("D", seed=1)
    assert taken(warm_start(params, donor), donor) == set(params)


def test_the_convolutions_fit_another_number_of_classes():
    params, donor = fresh("D"), fresh("D", seed=1, num_classes=7)
    started = warm_start(params, donor, "conv")
    assert taken(started, donor) == set(params) - set(FC_LAYERS)
    assert unchanged(started, params) == set(FC_LAYERS)


def test_every_missing_and_misshapen_layer_is_listed():
    params, donor = fresh("B"), fresh("A", seed=1, num_classes=7)
    with pytest.raises(InputError) as raised:
        warm_start(params, donor, "all")
    message = str(raised.value)
    assert message.startswith("cannot start from the other net's all layers: ")
    assert message.count("is missing") == 2
    for fault in ("conv1_2 is missing", "conv2_2 is missing", "fc8 has shape (123, 7) but (123, 4) is needed"):
        assert fault in message


def test_a_width_that_differs_is_listed():
    with pytest.raises(InputError, match=r"conv1_1 has shape \(3, 3, 3, 6\) but \(3, 3, 3, 2\) is needed"):
        warm_start(fresh("D"), fresh("A", width_multiplier=0.1), "paper_a")


def test_b_5x5_cannot_start_from_a():
    with pytest.raises(InputError, match="conv3_2 is missing"):
        warm_start(fresh("B-5x5"), fresh("A"), "paper_a")


def test_unknown_layers():
    with pytest.raises(InputError, match="unknown init_layers 'fc': choose one of all, paper_a, conv"):
        warm_start({}, {}, "fc")
