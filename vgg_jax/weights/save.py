"""Save a net as a weights file in the layout of a program, with a model card beside it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.report import Row, write_atomically
from vgg_jax.weights.card import model_card
from vgg_jax.weights.keras import write_keras
from vgg_jax.weights.layouts import OWN, exported, peculiarities
from vgg_jax.weights.metadata import net_metadata
from vgg_jax.weights.safetensors_file import check_params, save_safetensors
from vgg_jax.weights.safetensors_foreign import write_torch_safetensors
from vgg_jax.weights.warm_start import Params

SUFFIXES = {OWN: ".safetensors", "torchvision": ".safetensors", "timm": ".safetensors", "keras": ".h5"}
LAYOUTS = tuple(SUFFIXES)

_WRITERS = {"torchvision": write_torch_safetensors, "timm": write_torch_safetensors, "keras": write_keras}

log = logging.getLogger(__name__)


def save_weights(
    path: str | Path,
    model: VGG,
    params: Params,
    *,
    layout: str | None = None,
    metadata: Mapping[str, str] | None = None,
    results: Sequence[Row] = (),
) -> None:
    """Write a model and its params as a weights file that `load_weights` takes, and its model card, ``PATH.md``.

    layout: "vgg_jax" or "torchvision" or "timm" (*.safetensors), or "keras" (*.h5); by the suffix if not given, ours
        for .safetensors. No value is changed; all fields of the model travel with each of them, so that reading gives
        the same model and bits. Where the net is not as the program's own, a warning says how.
    metadata: of the training, as in `vgg_jax.weights.metadata.net_metadata`. results: rows of a results.json, for the
        card.
    Raises InputError for a suffix that does not fit, for net A-LRN in other layouts than ours, where params are not
    the model's, metadata do not fit, or a file cannot be written.
    """
    path = Path(path)
    layout = check_layout(path, layout)
    if layout == OWN:
        save_safetensors(path, model, params, dict(metadata or {}))
    else:
        described = net_metadata(model, metadata, f"the metadata for {path}")
        check_params(params, model, f"the params for {path}")
        _WRITERS[layout](path, exported(model, params, layout), described)
        for sentence in peculiarities(model, params, layout):
            log.warning("%s: %s", path, sentence)
    write_atomically(card_path(path), model_card(path.name, model, params, layout, metadata or {}, results))


def card_path(path: Path) -> Path:
    """Where the model card of a weights file lies."""
    return path.with_name(f"{path.name}.md")


def check_layout(path: Path, layout: str | None) -> str:
    """The layout of a file to write, by its suffix where None; InputError where they do not fit together."""
    if layout is not None and layout not in SUFFIXES:
        raise InputError(f"unknown layout {layout!r}: choose one of {', '.join(LAYOUTS)}")
    if path.name.lower().endswith(".weights.h5"):
        raise InputError(f"cannot write {path}: Keras takes *.weights.h5 for another format, so name the file *.h5")
    fitting = [name for name, suffix in SUFFIXES.items() if path.suffix.lower() == suffix and layout in (None, name)]
    if not fitting:
        wanted = [SUFFIXES[layout]] if layout else dict.fromkeys(SUFFIXES.values())
        of_layout = f"a weights file in the layout {layout}" if layout else "a weights file"
        raise InputError(f"cannot write {path}: {of_layout} is named {' or '.join(f'*{s}' for s in wanted)}")
    return fitting[0]
