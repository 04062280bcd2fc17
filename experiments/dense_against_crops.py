"""Why dense evaluation and crops differ for a trained stage: where the window lies, or what stands beyond its border.

python experiments/dense_against_crops.py --stage=WORKDIR/STAGE [--split=val] [--data_path=PATH] [--json=FILE]

Top-1 errors in percent at Q = S without mirror images. On crops alone dense evaluation is the ordinary net; the
top-left crop has the place of the first position of the score map, with zeros beyond its border; the whole image has
both the place and its neighbouring pixels.
"""

import json
from pathlib import Path

import numpy as np
from absl import flags
from compilation_cache import keep_programs

from command_line import run

STAGE = flags.DEFINE_string("stage", None, "A stage that train.py made, WORKDIR/STAGE.", required=True)
SPLIT = flags.DEFINE_enum("split", "val", ["train", "val", "test"], "The split.")
DATA_PATH = flags.DEFINE_string("data_path", None, "Where the data set lies, if not where the training found it.")

JSON = flags.DEFINE_string("json", None, "File for the figures.")


def main(_: object) -> None:
    """Evaluate and print."""
    keep_programs()
    from vgg_jax.data.pipeline import rescaled_images
    from vgg_jax.eval import centre_crop_eval, dense_eval, multi_crop_eval, top_k_errors
    from vgg_jax.eval.posteriors import single_scale
    from vgg_jax.eval.workdir import workdir_data
    from vgg_jax.images.crop import centre_crop
    from vgg_jax.weights.load import load_stage

    stage = Path(STAGE.value)
    model, params, info = load_stage(stage)
    data = workdir_data(stage.parent, SPLIT.value, DATA_PATH.value)
    records = list(rescaled_images(data.source, (single_scale(info["train_scale"]),), on_error=data.on_error))
    labels = np.array([label for _, label, views in records if views is not None])
    images = [views[0] for *_, views in records if views is not None]
    crop = model.crop_size
    corners = [image[:crop, :crop] for image in images]
    middles = [centre_crop(image, crop) for image in images]
    errors = {
        "centre crop": centre_crop_eval(model, params, images),
        "dense, centre crops alone": dense_eval(model, params, middles, flip=False),
        "top-left crop": centre_crop_eval(model, params, corners),
        "dense, whole images, floor": dense_eval(model, params, images, flip=False, pool_rounding="floor"),
        "dense, whole images, ceil": dense_eval(model, params, images, flip=False, pool_rounding="ceil"),
        "5x5 crops": multi_crop_eval(model, params, images, flip=False),
    }
    top1_errors = {name: top_k_errors(posteriors, labels)[1] for name, posteriors in errors.items()}
    print(f"{stage}: net {model.arch}, {data.name} {data.split}, {len(labels)} images")
    for name, error in top1_errors.items():
        print(f"{name:28} {error:6.2f}")
    if JSON.value:
        setting = {"arch": model.arch, "stage": info["stage"], "seed": info["seed"], "step": info["step"]}
        data_set = {"dataset": data.name, "split": data.split, "num_images": len(labels)}
        Path(JSON.value).write_text(json.dumps({**setting, **data_set, "top1_errors": top1_errors}, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
