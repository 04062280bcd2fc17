"""The paper's net B on ImageNet at S = 256 alone (13 layers).

Command:  python experiments/train.py --config=configs/vgg13.py --workdir=DIR --config.data.path=IMAGENET
Time:     2-3 weeks for a net on the paper's four Titan Black GPUs (sec. 3.3); not yet timed by us on a GPU.
Paper:    top-1 / top-5 validation error, dense (Tables 3, 4): single scale 28.7 / 9.9, three scales 28.2 / 9.6.
"""

from ml_collections import ConfigDict

from configs.base import paper_s256


def get_config() -> ConfigDict:
    """Net B, S = 256."""
    return paper_s256("B")
