"""A narrow net D through the whole chain on real photographs, Caltech-101; crops of 64.

Command:  python experiments/train.py --config=configs/caltech101.py --config.data.path=CALTECH101
Time:     35 minutes on 2 CPU cores; the errors of that run are in BUILD.md.
Paper:    trains on no set of this size; the scales 74 -> 110 -> [74;148] are its 256 -> 384 -> [256;512] at 64/224 of
          the size. The training split controls the rate, val chooses the checkpoint, test gives the reported errors.
"""

from ml_collections import ConfigDict

from configs.base import base, stage


def get_config() -> ConfigDict:
    """Net D at 1/4 of the width."""
    config = base()
    config.model.update(arch="D", width_multiplier=0.25, crop_size=64, dropout_rate=0.2)
    config.data.update(source="folder", path="data/caltech101", name="caltech101", val_fraction=0.1, test_fraction=0.2)
    config.train.update(batch_size=32)
    config.rate_control.update(split="train", patience=2, min_delta=0.5)
    config.eval.split = "test"
    config.stages.s256 = stage((74, 74), 5e-3, 5000)
    config.stages.s384 = stage((110, 110), 2e-3, 1500, "stage:s256")
    config.stages.jitter = stage((74, 148), 2e-3, 1500, "stage:s384")
    config.chain = ("s256", "s384", "jitter")
    return config
