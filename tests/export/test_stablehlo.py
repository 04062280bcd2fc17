"""Exported StableHLO, run by jax.export alone: the values of an independently built graph."""

import jax
import numpy as np
import pytest
from narrow_nets import FC, as_nhwc, expected, in_layout, narrow, noise
from tolerances import ANOTHER_PROGRAM, assert_close

from vgg_jax import InputError
from vgg_jax.export import TOLERANCE, check_export, export_net, export_stablehlo


@pytest.mark.parametrize(
    ("arch", "fields", "form", "layout", "sizes"),
    [
        ("A-LRN", {"pool_rounding": "ceil", "lrn": "caffe"}, "dense", "NHWC", [(2, 64, 64), (1, 97, 130)]),
        ("B-5x5", {}, "pool5", "NCHW", [(2, 65, 97)]),
        ("C", {}, "crop", "NHWC", [(1, 64, 64), (3, 64, 64)]),
    ],
)
def test_one_file_serves_every_size(tmp_path, arch, fields, form, layout, sizes):
    model, params = narrow(arch, **fields)
    written = {name: layer for name, layer in params.items() if name not in FC} if form == "pool5" else params
    export_stablehlo(tmp_path / "net.stablehlo", model, written, form=form, layout=layout)
    exported = jax.export.deserialize(bytearray((tmp_path / "net.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda")
    for size in sizes:
        images = noise(*size)
        ours = as_nhwc(np.asarray(exported.call(in_layout(images, layout))), layout)
        assert_close(ours, expected(model, params, form, images), ANOTHER_PROGRAM)


def test_the_check_tells_another_net_apart(tmp_path):
    model, params = narrow("A")
    path = tmp_path / "net.STABLEHLO"
    export_net(path, model, params)
    shape, difference = next(check_export(path, model, params))
    assert shape == (1, 64, 64, 3) and difference < TOLERANCE
    other = {**params, "fc8": {**params["fc8"], "kernel": 1.01 * params["fc8"]["kernel"]}}
    assert next(check_export(path, model, other))[1] > TOLERANCE


def test_another_suffix():
    with pytest.raises(InputError, match=r"cannot export net\.pb: an exported net is named \*\.onnx or \*\.stablehlo"):
        export_net("net.pb", *narrow("A"))
