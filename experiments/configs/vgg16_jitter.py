"""The paper's net D (VGG-16) on ImageNet through S = 256 -> 384 -> scale jitter [256;512].

Command:  python experiments/train.py --config=configs/vgg16_jitter.py --workdir=DIR --config.data.path=IMAGENET
          further, jitter in the fully connected layers alone (Table 6's competition net):
          ... --config.chain="('s256', 's384', 'jitter', 'jitter_fc')"
Time:     2-3 weeks for a net on the paper's four Titan Black GPUs (sec. 3.3); not yet timed by us on a GPU.
Paper:    top-1 / top-5 validation error, dense, single scale (Table 3): S=256 27.0 / 8.8, S=384 26.8 / 8.7,
          jitter 25.6 / 8.1; three scales (Table 4): 26.6 / 8.6, 26.5 / 8.6, 24.8 / 7.5.
"""

from ml_collections import ConfigDict

from configs.base import paper_chain


def get_config() -> ConfigDict:
    """Net D, the whole chain."""
    return paper_chain("D")
