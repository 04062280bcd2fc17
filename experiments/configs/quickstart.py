"""A narrow net D through the whole chain on pictures of ten kinds of shapes, drawn on first use; crops of 32.

Command:  python experiments/train.py --config=configs/quickstart.py
Time:     2.5 minutes on 2 CPU cores; the errors of that run are in BUILD.md.
Paper:    has no such experiment; the scales 37 -> 55 -> [37;74] are its 256 -> 384 -> [256;512] at 32/224 of the size.
"""

from ml_collections import ConfigDict

from configs.base import base, stage


def get_config() -> ConfigDict:
    """Net D at 1/8 of the width, three short stages."""
    config = base()
    config.model.update(arch="D", width_multiplier=0.125, crop_size=32, dropout_rate=0.1)
    config.data.update(source="shapes", name="shapes")
    config.train.update(batch_size=32)
    config.stages.s256 = stage((37, 37), 5e-3, 1800, rate_control="constant")
    config.stages.s384 = stage((55, 55), 2e-3, 400, "stage:s256", rate_control="constant")
    config.stages.jitter = stage((37, 74), 2e-3, 400, "stage:s384", rate_control="constant")
    config.chain = ("s256", "s384", "jitter")
    return config
