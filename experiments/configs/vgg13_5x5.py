"""The paper's net B-5x5 on ImageNet at S = 256 alone (B with each pair of 3x3 layers replaced by one 5x5).

Command:  python experiments/train.py --config=configs/vgg13_5x5.py --workdir=DIR --config.data.path=IMAGENET
Time:     2-3 weeks for a net on the paper's four Titan Black GPUs (sec. 3.3); not yet timed by us on a GPU.
Paper:    top-1 validation error on a centre crop 7 points above net B's (sec. 4.1).
"""

from ml_collections import ConfigDict

from configs.base import paper_s256


def get_config() -> ConfigDict:
    """Net B-5x5, S = 256."""
    return paper_s256("B-5x5")
