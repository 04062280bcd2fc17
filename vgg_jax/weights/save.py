"""Save a net as a weights file, by the file's suffix."""

from pathlib import Path

from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.weights.safetensors_file import save_safetensors
from vgg_jax.weights.warm_start import Params

_WRITERS = {".safetensors": save_safetensors}


def save_weights(path: str | Path, model: VGG, params: Params, *, metadata: dict[str, str] | None = None) -> None:
    """Write a model and its params as a weights file that `load_weights` takes; .safetensors so far.

    metadata: as in `save_safetensors`. Raises InputError for another suffix, and as the writer does.
    """
    writer = _WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise InputError(f"cannot write {path}: a weights file is named {' or '.join(f'*{s}' for s in _WRITERS)}")
    writer(path, model, params, metadata)
