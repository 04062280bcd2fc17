"""The published D, without its fully connected layers, fine-tuned on a split of Caltech-101; crops of 96.

Command:  python experiments/link_split.py --data_path=CALTECH101 --output=SPLIT
          python experiments/train.py --config=configs/caltech101_finetune.py --config.data.path=SPLIT \
            --config.stages.fc.init_from=weights:FILE
Time:     about 50 minutes on 2 CPU cores; mean class recall 83.5 (one split; BUILD.md).
Paper:    does not fine-tune (appendix B); its linear SVM on fc7 has a mean class recall of 91.8 +- 1.0.
"""

from ml_collections import ConfigDict

from configs.base import base, stage


def get_config() -> ConfigDict:
    """First the new fully connected layers alone, then all layers; mean and std come with the weights."""
    config = base()
    config.model.update(arch="D", crop_size=96, initializer="gaussian")  # glorot's first loss was 31
    config.data.update(source="folder", path="data/caltech101_split0", name="caltech101")
    config.train.update(batch_size=32, log_every=5)
    config.rate_control.split = "train"
    config.eval.split = "test"
    config.stages.fc = stage(
        (112, 112),
        1e-3,  # at 1e-2 the loss of the new layers grows from the first steps on
        300,
        "weights:vgg16.safetensors",
        init_layers="conv",
        train_layers="fc",
        rate_control="constant",
    )
    # at 1e-3 it grows again, and what the published convolutions knew is lost
    config.stages.all = stage((112, 112), 1e-4, 300, "stage:fc", rate_control="constant")
    config.chain = ("fc", "all")
    return config
