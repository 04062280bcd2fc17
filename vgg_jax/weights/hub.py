"""Weights in the hub's form, a folder with the file and its card as README.md, to and from a repository.

Needs the extra `hub` (huggingface_hub) for repositories; a folder needs nothing, and `load_weights` takes it.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vgg_jax.errors import InputError
from vgg_jax.model import VGG
from vgg_jax.report import Row
from vgg_jax.weights.load import HUB_FILES, file_in_folder
from vgg_jax.weights.save import SUFFIXES, card_path, check_layout, save_weights
from vgg_jax.weights.warm_start import Params

CARD = "README.md"


def save_folder(
    folder: Path,
    model: VGG,
    params: Params,
    *,
    layout: str = "vgg_jax",
    metadata: Mapping[str, str] | None = None,
    results: Sequence[Row] = (),
) -> Path:
    """Write FOLDER/model.safetensors (Keras's layout: model.h5) and its card, README.md; the file's path.

    Arguments and errors as in `save_weights`; files of these names are replaced, so that a folder holds one net.
    """
    path = folder / f"model{SUFFIXES.get(layout, '')}"
    check_layout(path, layout)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(path, model, params, layout=layout, metadata=metadata, results=results)
    card_path(path).replace(folder / CARD)
    _remove_others(path)
    return path


def _remove_others(path: Path) -> None:
    """Remove what `file_in_folder` might take in the place of the file that was just written."""
    for name in set(HUB_FILES) - {path.name}:
        path.with_name(name).unlink(missing_ok=True)


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a folder's weights and card to OWNER/NAME, which is made if need be; the address of the commit.

    Weights of the other name in HUB_FILES, which are there from before, are deleted in the same commit.
    The user's own token is what huggingface_hub finds. Raises InputError where the folder has no weights, or the hub
    refuses or cannot be reached.
    """
    files = [file_in_folder(folder).name, CARD]
    hub = _huggingface_hub()
    with _errors_told(repository):
        api = hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        others = [name for name in HUB_FILES if name not in files]
        commit = api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=files, delete_patterns=others)
    return str(commit.commit_url)


def fetch_folder(repository: str, folder: Path, *, revision: str | None = None) -> Path:
    """Fetch the weights of OWNER/NAME and their card into a folder, in the place of others; the file's path.

    revision: a branch, tag or commit. Raises InputError where the repository has neither model.safetensors nor
    model.h5, or cannot be reached.
    """
    hub = _huggingface_hub()
    with _errors_told(repository):
        api = hub.HfApi()
        present = api.list_repo_files(repository, revision=revision)
        wanted = [name for name in HUB_FILES if name in present][:1]
        if not wanted:
            raise InputError(
                f"{repository} has neither {' nor '.join(HUB_FILES)}, but {', '.join(present) or 'nothing'}"
            )
        for name in [*wanted, *([CARD] if CARD in present else [])]:
            api.hf_hub_download(repository, name, revision=revision, local_dir=folder)
    _remove_others(folder / wanted[0])
    return folder / wanted[0]


def _huggingface_hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as reason:
        raise InputError("repositories need huggingface_hub: pip install 'vgg_jax[hub]'") from reason
    return huggingface_hub


@contextlib.contextmanager
def _errors_told(repository: str) -> Iterator[None]:
    """What huggingface_hub raises, as an InputError: HTTP errors, names that are none, no network."""
    try:
        yield
    except InputError:
        raise
    except Exception as reason:  # its HTTP library, which has changed, has errors of its own
        sentence = next((line for line in str(reason).splitlines() if line.strip()), type(reason).__name__)
        raise InputError(f"{repository}: {sentence}") from reason
