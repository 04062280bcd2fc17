"""perceptual_distance.py and style_transfer.py, run as a user does, against activations of onnxruntime."""

import numpy as np
import pytest
from onnx_reference import reference
from PIL import Image
from running_scripts import assert_one_error_line, script
from test_model import MEAN, narrow, random_params

from vgg_jax.weights import save_weights

LAST_OF_BLOCKS = ("conv1_1", "conv2_1", "conv3_2", "conv4_2", "conv5_2")
STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """(params, folder with weights.safetensors and three pictures)."""
    folder = tmp_path_factory.mktemp("net")
    model = narrow("A", crop_size=32)
    params = random_params(model)
    save_weights(folder / "weights.safetensors", model, params)
    rng = np.random.default_rng(0)
    for name, size in (("a", (40, 51)), ("b", (40, 51)), ("other", (40, 50))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{name}.png")
    return params, folder


def activations(params, picture, layers):
    maps = reference("A", params, np.asarray(picture)[None], mean_rgb=MEAN, dense=True, layers=layers)
    return {name: a[0].astype(np.float64).reshape(-1, a.shape[-1]) for name, a in maps.items()}  # [positions, C]


def test_perceptual_distance_prints_layers_and_their_sum(net):
    params, folder = net
    run = script(
        "perceptual_distance.py", folder / "a.png", folder / "b.png", f"--weights={folder}/weights.safetensors"
    )
    assert run.returncode == 0, run.stderr
    printed = {name: float(value) for name, value in map(str.split, run.stdout.splitlines())}
    a, b = (activations(params, Image.open(folder / f"{name}.png"), LAST_OF_BLOCKS) for name in "ab")
    expected = {}
    for name in LAST_OF_BLOCKS:
        length_a, length_b = (np.linalg.norm(x[name], axis=1) for x in (a, b))
        dot = (a[name] * b[name]).sum(1) / np.maximum(length_a * length_b, 1e-30)
        expected[name] = np.mean((length_a > 0) + 1.0 * (length_b > 0) - 2 * dot)  # |u|^2 + |v|^2 - 2 u.v
    expected["sum"] = sum(expected.values())
    assert list(printed) == list(expected)
    assert printed == pytest.approx(expected, abs=2e-5)


def test_a_picture_is_at_distance_0_from_itself_in_any_layers(net):
    _, folder = net
    weights = f"--weights={folder}/weights.safetensors"
    run = script("perceptual_distance.py", folder / "a.png", folder / "a.png", weights, "--layers=pool2,conv1_1/pre")
    assert run.stdout.split() == ["pool2", "0.000000", "conv1_1/pre", "0.000000", "sum", "0.000000"]


def test_style_transfer_brings_gram_matrices_to_the_style_and_writes_both_pictures(net):
    params, folder = net
    stripes = np.tile(np.repeat([[250, 200, 20], [20, 30, 140]], 4, axis=0).astype(np.uint8), (40, 5, 1))
    Image.fromarray(stripes).save(folder / "stripes.png")
    photograph = Image.open(folder / "a.png")
    run = script(
        "style_transfer.py",
        *(f"--content={folder}/a.png", f"--style={folder}/stripes.png", f"--weights={folder}/weights.safetensors"),
        *(f"--output={folder}/new/out.png", "--size=40", "--steps=30", "--style_weight=100"),
    )
    assert run.returncode == 0, run.stderr
    result = Image.open(folder / "new" / "out.png")
    assert result.size == photograph.size
    compared = np.asarray(Image.open(folder / "new" / "out_compared.png"))
    assert compared.shape == (40, 51 + 40 + 51, 3)
    np.testing.assert_array_equal(compared[:, :51], photograph)
    np.testing.assert_array_equal(compared[:, -51:], result)
    target, before, after = (activations(params, p, STYLE) for p in (Image.fromarray(stripes), photograph, result))
    errors = []
    for maps in (before, after):
        grams = [[x[name].T @ x[name] / len(x[name]) for x in (maps, target)] for name in STYLE]
        errors.append(np.mean([((a - b) ** 2).sum() / (b**2).sum() for a, b in grams]))
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["perceptual_distance.py", "a.png", "other.png", "--weights=weights.safetensors"],
            ["40x51", "40x50", "one size"],
        ),
        (["perceptual_distance.py", "a.png", "--weights=weights.safetensors"], ["B missing: the arguments are A B"]),
        (["perceptual_distance.py", "a.png", "b.png", "c.png", "--weights=w"], ["unexpected argument 'c.png'"]),
        (
            ["style_transfer.py", "--content=a.png", "--style=b.png", "--weights=w", "--output=out.txt"],
            ["--output=out.txt is no picture: name it *.jpg or *.png"],
        ),
    ],
)
def test_mistakes_are_told_in_one_line(net, arguments, words):
    assert_one_error_line(script(*arguments, cwd=net[1]), *words)
