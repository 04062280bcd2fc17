import pytest

from configs.base import base, stage
from vgg_jax import InputError
from vgg_jax.training.config import check_config


def good():
    config = base()
    config.stages.first = stage((256, 256), 1e-2, 10)
    config.stages.second = stage((256, 512), 1e-3, 10, "stage:first")
    config.chain = ("first", "second")
    return config


def test_the_defaults_pass():
    check_config(good())


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("seed", -1, "seed is -1, but at least 0"),
        ("train.batch_size", 0, "train.batch_size is 0, but at least 1"),
        ("train.log_every", 0, "train.log_every is 0"),
        ("eval.batch_size", -2, "eval.batch_size is -2"),
        ("train.skip_nonfinite", -1, "train.skip_nonfinite is -1, but at least 0"),
        ("train.on_save_error", "ignore", "train.on_save_error is 'ignore': choose one of stop, continue"),
        ("train.reduction", "mean", "train.reduction is 'mean': choose one of ordered, ordered_bf16, all_reduce"),
        ("rate_control.split", "tset", "rate_control.split is 'tset': choose one of val, train"),
        ("data.decoder", "quick", "data.decoder is 'quick': choose one of exact, fast"),
        ("eval.split", "dev", "eval.split is 'dev': choose one of train, val, test"),
        ("model.pool_rounding", "up", "model.pool_rounding is 'up'"),
        ("chain", (), "chain is empty"),
        ("chain", ("first", "third"), "chain names the stage 'third'"),
        ("chain", ("second", "first"), "stages.second.init_from is stage:first, but .* chain are: none"),
        ("stages.second.scale", (200, 512), "stages.second.scale begins at 200, smaller than the crop of 224"),
        ("stages.second.scale", (512, 256), "a pair"),
        ("stages.second.steps", 0, "stages.second.steps is 0"),
        ("stages.second.rate_control", "cosine", "choose one of plateau, steps, constant"),
        ("stages.second.rate_control", "steps", "rate_boundaries names no step"),
        ("stages.second.train_layers", "conv", "choose one of all, fc"),
        ("stages.second.init_layers", "A", "choose one of all, paper_a, conv"),
        ("stages.second.init_from", "first", "but stage:NAME, workdir:DIR/STAGE or weights:FILE"),
    ],
)
def test_what_cannot_be_is_named_before_anything_runs(field, value, sentence):
    config = good()
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=sentence):
        check_config(config)
