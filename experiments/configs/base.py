"""What all configs share: every field with the paper's value, and the paper's chain of stages (sec. 3.1)."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def stage(
    scale: tuple[int, int], learning_rate: float, steps: int, init_from: str = "", **fields: object
) -> ConfigDict:
    """A stage: training scale (S_min, S_max), first learning rate, optimizer steps, and what it starts from."""
    return ConfigDict(
        {
            "scale": scale,
            "learning_rate": learning_rate,
            "steps": steps,
            "init_from": init_from,  # "" | stage:NAME | workdir:DIR/STAGE | weights:FILE
            "init_layers": "all",  # all | paper_a | conv
            "train_layers": "all",  # all | fc
            "rate_control": "plateau",  # plateau | steps | constant
            "rate_boundaries": (),  # of "steps": where the rate drops
            **fields,
        }
    )


def base() -> ConfigDict:
    """Every field with its default; the stages are the caller's to name."""
    return ConfigDict(
        {
            "seed": 0,
            "num_classes": placeholder(int),  # comes from the data; given, it must agree
            "model": {
                "arch": "D",
                "width_multiplier": 1.0,
                "crop_size": 224,
                "dropout_rate": 0.5,
                "pool_rounding": "floor",  # floor | ceil
                "lrn": "krizhevsky",  # krizhevsky | caffe; A-LRN only
                "dtype": "float32",  # float32 | bfloat16, of the computation
                "initializer": "glorot",  # glorot | gaussian
                "initializer_std": 0.01,  # of gaussian; the paper's literal 0.1 diverges
            },
            "data": {
                "source": "shapes",  # folder | array_record | tfds | shapes
                "path": "",
                "name": "",  # in results; the last part of the path if empty
                "split_seed": 0,
                "val_fraction": 0.1,  # of a folder without val
                "test_fraction": 0.0,
                "images_per_class": placeholder(int),  # cap on training images
                "statistics": "compute",  # mean RGB and colour PCA: compute | imagenet | a file
                "on_error": "raise",  # unreadable images: raise | skip | skip:FILE, those that FILE lists alone
                "decoder": "exact",  # training views: exact | fast, with other rounding
                "workers": 0,  # processes that decode; 0: threads of this process
                "threads": 8,
            },
            "train": {
                "batch_size": 256,
                "micro_batches": 8,
                "remat": False,  # compute activations of the first block again: less memory, a few percent more time
                "reduction": "ordered",  # same bits on any device count | ordered_bf16, half the bytes | all_reduce
                "colour_shift": True,
                "validate_every": 0,  # steps; 0: once an epoch
                "checkpoint_every": 0,  # steps between validations too; 0: at validations alone
                "on_save_error": "stop",  # stop | continue: go on, and save again when it is next due
                "log_every": 10,
                "skip_nonfinite": 0,  # updates of a stage that may be skipped because they are not finite
            },
            "optimizer": {
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "decay_biases": True,
                "bias_rate_multiplier": 1.0,
            },
            "rate_control": {
                "split": "val",  # whose top-1 error the plateau watches: val | train
                "patience": 5,  # epochs
                "min_delta": 0.1,  # percent
                "factor": 0.1,
            },
            "eval": {"split": "val", "batch_size": placeholder(int)},
            "chain": (),
            "stages": {},
        }
    )


def imagenet(arch: str) -> ConfigDict:
    """ImageNet as prepare_imagenet.py writes it, and a net of the paper, without stages."""
    config = base()
    config.model.arch = arch
    config.data.update(source="array_record", path="data/imagenet", name="imagenet", workers=8)
    config.train.update(checkpoint_every=1000, log_every=50)
    return config


def paper_s256(arch: str) -> ConfigDict:
    """A net at S = 256 from scratch; 370K iterations are 74 epochs."""
    config = imagenet(arch)
    # rate_control="steps" drops the rate where the paper's accuracy may have stopped improving: our guess
    config.stages.s256 = stage((256, 256), 1e-2, 370_000, rate_boundaries=(150_000, 250_000, 320_000))
    config.chain = ("s256",)
    return config


def paper_chain(arch: str) -> ConfigDict:
    """S = 256 -> 384 -> jitter [256;512], and by name jitter_fc: jitter in the fully connected layers alone.

    The paper gives the rate of S = 384 (1e-3); the rate of the jitter stages and the lengths are our choices.
    """
    config = paper_s256(arch)
    config.stages.s384 = stage((384, 384), 1e-3, 100_000, "stage:s256")
    config.stages.jitter = stage((256, 512), 1e-3, 100_000, "stage:s384")
    config.stages.jitter_fc = stage((256, 512), 1e-3, 50_000, "stage:s384", train_layers="fc")
    config.chain = ("s256", "s384", "jitter")
    return config
