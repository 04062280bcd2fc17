"""The parser of compiled programs on small ones with known answers; the prediction on cases done by hand."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXPERIMENTS
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from vgg_jax import VGG
from vgg_jax.compilation import quick_compiler_options
from vgg_jax.training.parallel import all_reduce

sys.path.insert(0, str(EXPERIMENTS / "benchmarks"))
from collectives import collectives, total_operations
from prediction import (
    Layer,
    Machine,
    Way,
    all_to_all_seconds,
    efficiency,
    exchange_seconds,
    finished,
    layers_of,
    pass_seconds,
    sharding_pays_below,
    step_seconds,
)

KERNEL, MATRIX = 3 * 3 * 4 * 8, 2048 * 150  # elements; the matrix travels alone
CONVOLUTION, PRODUCT = 2 * 2 * 16 * 16 * KERNEL, 2 * 2 * MATRIX  # operations on two images, padding counted


@pytest.fixture(scope="module")
def programs():
    """The compiled gradients of a 3x3 convolution of 16x16 and a matrix, reduced over eight devices in each way."""

    def loss(kernel, matrix, images):
        maps = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.square(jnp.tanh(maps).reshape(2, -1) @ matrix).sum()

    def step(reduction, kernel, matrix, images):
        here = (lax.pcast(a, "data", to="varying") for a in (kernel, matrix))
        value, grads = jax.value_and_grad(loss, (0, 1))(*here, images[0])
        return all_reduce(reduction, ("data",))((grads, value))

    mesh = Mesh(np.array(jax.devices()), ("data",))
    specs = {"mesh": mesh, "in_specs": (P(), P(), P("data")), "out_specs": P()}
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((3, 3, 4, 8), (2048, 150), (8, 2, 16, 16, 4))]
    texts = {}
    for reduction in ("ordered", "ordered_bf16", "all_reduce"):
        sharded = jax.shard_map(lambda *a, reduction=reduction: step(reduction, *a), **specs)
        texts[reduction] = jax.jit(sharded).lower(*shapes).compile(quick_compiler_options()).as_text()
    return texts


@pytest.mark.parametrize("reduction, width, scalars", [("ordered", 4, 1), ("all_reduce", 4, 1), ("ordered_bf16", 2, 0)])
def test_bytes_are_those_of_the_closed_form(programs, reduction, width, scalars):
    found = [c for c in collectives(programs[reduction]) if c.elements > 8]  # the loss alone is padded to 8
    padding = -(KERNEL + scalars) % 8 if reduction == "ordered" else 0
    assert sum(c.sent for c in found) == 2 * 7 / 8 * width * (KERNEL + MATRIX + scalars + padding)
    assert {c.dtype for c in found} == {"u16" if width == 2 else "f32"}  # bfloat16 travels as its bits


def test_what_may_run_beside_a_reduction(programs):
    """Beside the matrix's the gradients of the maps and of the kernel; beside the kernel's that of the matrix."""
    found = {(c.kind, c.elements): c for c in collectives(programs["ordered"])}
    kernel = KERNEL + 8  # with the loss
    for kind in ("all-to-all", "all-gather"):
        assert found[kind, MATRIX].free == PRODUCT + CONVOLUTION
        assert found[kind, kernel].free == PRODUCT
        assert found[kind, kernel].left <= PRODUCT
    assert len(found) == 4
    assert total_operations(programs["ordered"]) == 3 * PRODUCT + 2 * CONVOLUTION


def test_one_all_reduce_waits_for_everything(programs):
    """XLA's CPU backend joins them, so that nothing is left to run beside it."""
    (found,) = collectives(programs["all_reduce"])
    assert (found.kind, found.elements, found.free) == ("all-reduce", KERNEL + MATRIX + 1, 0)


TEXT = """HloModule m, is_scheduled=true

%body (p.0: f32[2,4]) -> f32[2,2] {
  %p.0 = f32[2,4]{1,0} parameter(0)
  ROOT %d = f32[2,2]{1,0} dot(%p.0, %p.0), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}

ENTRY %main (a: f32[2,4]) -> f32[2,4] {
  %a = f32[2,4]{1,0} parameter(0)
  %early = f32[2,2]{1,0} fusion(%a), kind=kOutput, calls=%body
  %scatter = bf16[6]{0} reduce-scatter(%a), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %beside = f32[2,2]{1,0} fusion(%a), kind=kOutput, calls=%body
  %held = f32[2,2]{1,0} fusion(%a), kind=kOutput, calls=%body, control-predecessors={%scatter}
  %both = (f32[3]{0}, /*index=1*/pred[5]{0}) all-gather(%held, %early), replica_groups={{0,1},{2,3}}, dimensions={0}
  ROOT %after = f32[2,2]{1,0} fusion(%both), kind=kOutput, calls=%body
}
"""


def test_a_program_by_hand():
    scatter, gather = collectives(TEXT)
    assert scatter[:7] == ("scatter", "reduce-scatter", "bf16", 24, 48, 36.0, 64)  # early, beside: 2 * 2 * 2 * 4 each
    assert scatter.left == 32
    assert gather[:7] == ("both", "all-gather", "f32", 8, 17, 8.5, 32)
    assert gather.left == 0
    assert total_operations(TEXT) == 4 * 32


@pytest.mark.parametrize("groups", ["mesh['a'=2,'b'=4] {'b'}", "mesh['a'=2,'b'=2,'c'=2] {'a','c'}", "{{0,1,2,3}}"])
def test_groups_as_versions_of_xla_write_them(groups):
    scatter, _ = collectives(TEXT.replace("[2,4]<=[8]", groups))
    assert scatter == collectives(TEXT)[0]


ROUND = Machine(node=8, nvlink=100.0, card=10.0, cards=2, memory=3350e9, latency=0.0)


@pytest.mark.parametrize(
    "seconds, expected",
    [
        (pass_seconds(800.0, 8, ROUND), 7.0),
        (pass_seconds(800.0, 16, ROUND), 37.5),  # 15/16 of 800 over 20
        (all_to_all_seconds(800.0, 8, ROUND), 7.0),
        (all_to_all_seconds(800.0, 16, ROUND), 160.0),  # of each of 8 GPUs half of 800 leaves the node
        (exchange_seconds("ordered", 800.0, 16, ROUND), 197.5),
        (exchange_seconds("ring", 800.0, 16, ROUND), 75.0),
        (exchange_seconds("two_level", 800.0, 16, ROUND), 54.0),  # 7 inside and 400 / 20 outside, twice
        (exchange_seconds("ordered", 800.0, 1, ROUND), 0.0),
        (pass_seconds(0.0, 16, ROUND._replace(latency=2.0)), 8.0),
        (finished([0.0, 1.0, 20.0], [5.0, 1.0, 2.0]), 22.0),
        (finished([0.0, 1.0], [5.0, 1.0]), 6.0),
    ],
)
def test_seconds_by_hand(seconds, expected):
    assert seconds == pytest.approx(expected)


def test_the_layers_of_net_d():
    layers = layers_of(VGG("D"))
    assert sum(layer.parameters for layer in layers) == 138_357_544
    assert sum(layer.multiply_adds for layer in layers) == 15_470_264_320
    assert [layer.inputs for layer in layers[-3:]] == [25_088, 4096, 4096]
    assert step_seconds(layers, 256, 1, Way(""), Machine()) == pytest.approx(256 / 4000)
    assert sharding_pays_below(layers, 2) == pytest.approx(123_642_856 / (25_088 + 4096 + 4096))


def test_an_exchange_is_hidden_by_what_is_left_of_the_backward_pass():
    """Two layers of equal arithmetic and no passes over memory: the last one's gradient is there at 2/3 of the step."""
    layers = [Layer("conv1_1", 10, 1, 1), Layer("fc6", 10**6, 1, 1)]
    machine = ROUND._replace(memory=float("inf"), nvlink=4e6 / 0.01)
    alone, hidden, exposed = (
        step_seconds(layers, 256, gpus, Way("", overlap=overlap), machine)
        for gpus, overlap in ((1, True), (8, True), (8, False))
    )
    assert alone == pytest.approx(0.064)
    assert exposed == pytest.approx(0.064 + 2 * 0.01 * 7 / 8, rel=1e-4)
    assert hidden == pytest.approx(0.064, rel=1e-4)  # 0.0175 of 0.064 / 3
    assert efficiency(layers, 8, Way(""), machine) == pytest.approx(1.0, rel=1e-4)
    slow = machine._replace(nvlink=machine.nvlink / 2)
    assert step_seconds(layers, 256, 8, Way(""), slow) == pytest.approx(0.064 * 2 / 3 + 4 * 0.01 * 7 / 8, rel=1e-4)
    assert efficiency(layers, 8, Way("", overlap=False), slow, batch=256) == pytest.approx(0.064 / 8 / 0.043, rel=1e-4)
