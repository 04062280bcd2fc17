"""The model card of a weights file: net, preprocessing, how to load it, training, measured errors. Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vgg_jax.model import VGG
from vgg_jax.report import Row, format_scale, markdown_table, read_rows, results_table
from vgg_jax.weights.layouts import OWN, net_in, peculiarities, preprocessing
from vgg_jax.weights.metadata import file_info
from vgg_jax.weights.warm_start import Params

# what the hub reads; the licence is the user's to name
_FRONT_MATTER = """---
library_name: {library}
pipeline_tag: image-classification
tags: [vgg, {tag}]
---

"""

_LOADING = {
    OWN: 'from vgg_jax.weights import load_weights\n\nmodel, params = load_weights("{file}")',
    "torchvision": "from safetensors.torch import load_file\nfrom torchvision.models import {net}\n\n"
    'model = {net}(num_classes={classes}).eval()\nmodel.load_state_dict(load_file("{file}"))',
    "timm": "import timm\nfrom safetensors.torch import load_file\n\n"
    'model = timm.create_model("{net}", num_classes={classes}).eval()\nmodel.load_state_dict(load_file("{file}"))',
    "keras": "from keras.applications import {net}\n\n"
    'model = {net}(weights=None, classes={classes}, classifier_activation=None)\nmodel.load_weights("{file}")',
}


def model_card(
    file: str, model: VGG, params: Params, layout: str, metadata: Mapping[str, str], results: Sequence[Row]
) -> str:
    """The card of a file by this name. metadata, results: as in `save_weights`; what is not known is not named."""
    title = f"# Net {model.arch} of Simonyan & Zisserman (2014), `{file}`"
    sections = [title, _net(model, params, layout), _loading(file, model, params, layout)]
    if told := peculiarities(model, params, layout):
        sections.append("\n".join(["Beware:", "", *(f"- {sentence}." for sentence in told)]))
    sections += [_training(file_info(metadata, file)), _errors(results)]
    front_matter = _FRONT_MATTER.format(library=layout if layout != "torchvision" else "torch", tag=OWN)
    return front_matter + "\n\n".join(sections) + "\n"


def stage_rows(source: Path, info: Mapping[str, Any]) -> list[Row]:
    """The rows of the workdir's results.json that were measured on this checkpoint of a stage; of a file none."""
    rows = read_rows(source.parent / "results.json") if source.is_dir() else []
    same = {"stage": info.get("stage"), "step": info.get("step"), "workdir": None}
    return [row for row in rows if not row.get("members") and all(row.get(k) == v for k, v in same.items())]


def _net(model: VGG, params: Params, layout: str) -> str:
    number = sum(array.size for array in jax.tree.leaves(params))
    lines: list[tuple[str, Any]] = [
        ("parameters", f"{number:,}"),
        ("width", f"{model.width_multiplier:g}"),
        ("classes", model.num_classes if "fc8" in params else "none: convolutions alone, for features"),
        ("crop", model.crop_size),
        ("layout", layout),
        ("input", preprocessing(model, layout)),
        ("pools at odd sides", model.pool_rounding),
    ]
    return markdown_table(["", "net " + model.arch], [[name, str(value)] for name, value in lines])


def _loading(file: str, model: VGG, params: Params, layout: str) -> str:
    """The lines of code: the program's where it has the net, else ours, which read the file as well."""
    net = None if layout == OWN or "fc8" not in params else net_in(model, layout)
    code = _LOADING[layout if net else OWN].format(file=file, net=net, classes=model.num_classes)
    return f"```python\n{code}\n```"


def _training(info: Mapping[str, Any]) -> str:
    lines = [
        [name.replace("_", " "), format_scale(value) if name == "train_scale" else str(value)]
        for name, value in info.items()
        if value is not None and name != "classes"
    ]
    if not lines:
        return "## Training\n\nNot known: the weights came from a file that does not tell."
    return f"## Training\n\n{markdown_table(['', ''], lines)}"


def _errors(results: Sequence[Row]) -> str:
    if not results:
        return "## Errors\n\nNot measured here."
    return f"## Errors\n\n{results_table(results)}"
