"""The paper's net A on ImageNet at S = 256 alone (11 layers); the net that starts the deeper ones.

Command:  python experiments/train.py --config=configs/vgg11.py --workdir=DIR --config.data.path=IMAGENET
Time:     2-3 weeks for a net on the paper's four Titan Black GPUs (sec. 3.3); not yet timed by us on a GPU.
Paper:    top-1 / top-5 validation error, dense, single scale (Table 3): 29.6 / 10.4.
"""

from ml_collections import ConfigDict

from configs.base import paper_s256


def get_config() -> ConfigDict:
    """Net A, S = 256."""
    return paper_s256("A")
