import pytest

from vgg_jax import ARCHITECTURES, InputError
from vgg_jax.architectures import FC_LAYERS, PAPER_A_LAYERS, blocks_of, layer_names

CONV_LAYERS = {"A": 8, "A-LRN": 8, "B": 10, "B-5x5": 5, "C": 13, "D": 13, "E": 16}  # Table 1


def test_the_nets_of_table_1():
    assert tuple(ARCHITECTURES) == tuple(CONV_LAYERS)
    for arch, count in CONV_LAYERS.items():
        assert len(layer_names(arch)) == count + 3
        assert [block[0].channels for block in ARCHITECTURES[arch]] == [64, 128, 256, 512, 512]


def test_layer_names_count_within_their_block():
    assert layer_names("A") == (
        *("conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2"),
        *("fc6", "fc7", "fc8"),
    )
    assert layer_names("E")[-7:] == ("conv5_1", "conv5_2", "conv5_3", "conv5_4", *FC_LAYERS)


def test_kernels_of_b_5x5_and_c():
    assert {layer.kernel for block in ARCHITECTURES["B-5x5"] for layer in block} == {5}
    ones = [layer.name for block in ARCHITECTURES["C"] for layer in block if layer.kernel == 1]
    assert ones == ["conv3_3", "conv4_3", "conv5_3"]


def test_only_a_lrn_normalises_after_its_first_layer():
    normalised = [(arch, layer.name) for arch in ARCHITECTURES for b in ARCHITECTURES[arch] for layer in b if layer.lrn]
    assert normalised == [("A-LRN", "conv1_1")]


def test_the_layers_that_start_the_deeper_nets():
    """The first four convolutions of A and its fully connected layers (sec. 3.1)."""
    assert (*layer_names("A")[:4], "fc6", "fc7", "fc8") == PAPER_A_LAYERS
    layers = {arch: {layer.name: layer for block in blocks_of(arch) for layer in block} for arch in ARCHITECTURES}
    for arch in ("B", "C", "D", "E"):
        assert all(layers[arch][name] == layers["A"][name] for name in PAPER_A_LAYERS[:4])


def test_unknown_architecture():
    with pytest.raises(InputError, match="unknown architecture 'F': choose one of A, A-LRN, B, B-5x5, C, D, E"):
        layer_names("F")
