"""Operations in closed form, a machine's memory, and runs that do not fit."""

import pytest
from tiny_training import make_config

from vgg_jax import VGG, InputError
from vgg_jax.training import estimate, program
from vgg_jax.training.chain import run_chain
from vgg_jax.training.estimate import Memory, check_fits, device_memory, gigabytes, step_operations

GIB = 2**30

# Net D at 224: (channels in, channels out, side of the map) of each 3x3 convolution, then the fully connected layers.
CONVOLUTIONS = (
    *((3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56), (256, 256, 56)),
    *((256, 512, 28), (512, 512, 28), (512, 512, 28), (512, 512, 14), (512, 512, 14), (512, 512, 14)),
)
MULTIPLICATIONS = [9 * given * made * side**2 for given, made, side in CONVOLUTIONS]
FC = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000


def test_operations_of_a_step():
    forward, first = sum(MULTIPLICATIONS) + FC, sum(MULTIPLICATIONS[:2])
    assert step_operations(VGG("D"), 4) == 4 * 6 * forward
    assert step_operations(VGG("D"), 4, remat=True) == 4 * (6 * forward + 2 * first)
    for remat in (False, True):  # nothing goes back to the first block
        assert step_operations(VGG("D"), 4, trained="fc", remat=remat) == 4 * (2 * forward + 4 * FC)


@pytest.mark.parametrize("limit, expected", [(None, 10 * GIB), ("max\n", 10 * GIB), (f"{4 * GIB}\n", 4 * GIB)])
def test_memory_of_a_machine(monkeypatch, tmp_path, limit, expected):
    meminfo, container = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * 2**20} kB\nActive(anon): 7 kB\nSwapFree: {2 * 2**20} kB\n")
    if limit:
        container.write_text(limit)
    monkeypatch.setattr(estimate, "_MEMINFO", meminfo)
    monkeypatch.setattr(estimate, "_CONTAINER_LIMIT", container)
    assert device_memory() == expected // 8  # eight devices
    meminfo.unlink()
    assert device_memory() is None


def test_what_may_just_fit_is_not_refused(pictures):
    config, memory = make_config(pictures), Memory(10, 20, 30, 40)
    check_fits("s256", config, memory, 100)
    check_fits("s256", config, memory, None)
    with pytest.raises(InputError, match=r"set train\.remat=True"):
        check_fits("s256", config, memory, 99)


def test_a_run_that_cannot_fit_ends_before_its_first_batch(monkeypatch, pictures, tmp_path):
    monkeypatch.setattr(program, "device_memory", lambda: 1000)
    monkeypatch.setattr("vgg_jax.training.loop.stage_batches", None)
    with pytest.raises(
        InputError,
        match=r"stages.s256: a training step needs .* MB on each device, .* but 0.00 MB are there: "
        r"raise train.micro_batches \(now 8\), or lower train.batch_size \(16\), or set model.dtype=bfloat16$",
    ):
        run_chain(make_config(pictures, train__remat=True), tmp_path)
    assert not (tmp_path / "s256" / "checkpoints").exists()


def test_gigabytes():
    assert [gigabytes(n) for n in (1e6, 12_345_678, 2e10)] == ["1.00 MB", "0.01 GB", "20.00 GB"]
