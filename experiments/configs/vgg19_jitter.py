"""The paper's net E (VGG-19) on ImageNet through S = 256 -> 384 -> scale jitter [256;512].

Command:  python experiments/train.py --config=configs/vgg19_jitter.py --workdir=DIR --config.data.path=IMAGENET
Time:     2-3 weeks for a net on the paper's four Titan Black GPUs (sec. 3.3); not yet timed by us on a GPU.
Paper:    top-1 / top-5 validation error, dense, single scale (Table 3): S=256 27.3 / 9.0, S=384 26.9 / 8.7,
          jitter 25.5 / 8.0; three scales (Table 4): 26.9 / 8.7, 26.7 / 8.6, 24.8 / 7.5.
"""

from ml_collections import ConfigDict

from configs.base import paper_chain


def get_config() -> ConfigDict:
    """Net E, the whole chain."""
    return paper_chain("E")
