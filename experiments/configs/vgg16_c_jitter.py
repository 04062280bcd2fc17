"""The paper's net C (16 layers, three of them 1x1) on ImageNet through S = 256 -> 384 -> scale jitter [256;512].

Command:  python experiments/train.py --config=configs/vgg16_c_jitter.py --workdir=DIR --config.data.path=IMAGENET
Time:     2-3 weeks for a net on the paper's four Titan Black GPUs (sec. 3.3); not yet timed by us on a GPU.
Paper:    top-1 / top-5 validation error, dense, single scale (Table 3): S=256 28.1 / 9.4, S=384 28.1 / 9.3,
          jitter 27.3 / 8.8; three scales (Table 4): 27.7 / 9.2, 27.8 / 9.2, 26.3 / 8.2.
"""

from ml_collections import ConfigDict

from configs.base import paper_chain


def get_config() -> ConfigDict:
    """Net C, the whole chain."""
    return paper_chain("C")
