"""One net of the paper's Tables 3 to 6 in small, on Caltech-101: crops of 32, all nets with one schedule.

Command:  python experiments/train.py --config=configs/caltech101_tables.py:D --workdir=RUNS/seed0/D
          (every net of the tables, with the warm starts from A: python experiments/reproduce.py --train)
Time:     7 nets with 3 seeds: 2 hours on 2 CPU cores, other work beside them; 4 to 12 minutes a net.
Paper:    Table 3; on ImageNet at crop 224. The scales 37 -> 55 -> [37;74] are its 256 -> 384 -> [256;512] at 32/224.
"""

from ml_collections import ConfigDict

from configs.base import base, stage

CHAINS = {
    **dict.fromkeys(("A", "A-LRN", "B", "B-5x5"), ("s256",)),
    **dict.fromkeys(("C", "E"), ("s256", "s384", "jitter")),
    "D": ("s256", "s384", "jitter", "jitter_fc"),
}


def get_config(arch: str = "D") -> ConfigDict:
    """The net at 1/8 of the width; training chooses the rates, val the checkpoint, test gives the reported errors."""
    config = base()
    config.model.update(arch=arch, width_multiplier=0.125, crop_size=32, dropout_rate=0.2)
    config.data.update(source="folder", path="data/caltech101", name="caltech101", val_fraction=0.1, test_fraction=0.2)
    config.train.update(batch_size=32, micro_batches=1, validate_every=1000)
    config.eval.split = "test"
    drops = {"rate_control": "steps"}
    config.stages.s256 = stage((37, 37), 5e-3, 6000, rate_boundaries=(4500, 5500), **drops)
    config.stages.s384 = stage((55, 55), 2e-3, 1500, "stage:s256", rate_boundaries=(1000,), **drops)
    config.stages.jitter = stage((37, 74), 2e-3, 2000, "stage:s384", rate_boundaries=(1500,), **drops)
    config.stages.jitter_fc = stage(
        (37, 74), 2e-3, 2000, "stage:s384", rate_boundaries=(1500,), train_layers="fc", **drops
    )
    config.chain = CHAINS[arch]
    return config
