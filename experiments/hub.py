"""Weights to and from a repository of the Hugging Face hub, or a folder in its form. Needs `pip install '.[hub]'`.

python experiments/hub.py save FILE|WORKDIR/STAGE FOLDER [--layout=torchvision]   the weights and their card, README.md
python experiments/hub.py push FOLDER OWNER/NAME [--private]                      upload them, after hf auth login
python experiments/hub.py fetch OWNER/NAME FOLDER [--revision=main]               load_weights(FOLDER) takes it
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from command_line import run

LAYOUT = flags.DEFINE_enum("layout", "vgg_jax", ["vgg_jax", "torchvision", "timm", "keras"], "Of save: names, layout.")
PRIVATE = flags.DEFINE_bool("private", False, "Of push: a new repository is private.")
REVISION = flags.DEFINE_string("revision", None, "Of fetch: a branch, tag or commit.")


def save(source: str, folder: str) -> str:
    """Write a folder in the hub's form."""
    from vgg_jax.weights.card import stage_rows
    from vgg_jax.weights.hub import save_folder
    from vgg_jax.weights.load import load_stage
    from vgg_jax.weights.metadata import training_metadata

    model, params, info = load_stage(source)
    options = {"metadata": training_metadata(info), "results": stage_rows(Path(source), info)}
    return str(save_folder(Path(folder), model, params, layout=LAYOUT.value, **options))


def push(folder: str, repository: str) -> str:
    """Upload a folder."""
    from vgg_jax.weights import hub

    return hub.push(Path(folder), repository, private=PRIVATE.value)


def fetch(repository: str, folder: str) -> str:
    """Download to a folder."""
    from vgg_jax.weights import hub

    return str(hub.fetch_folder(repository, Path(folder), revision=REVISION.value))


def main(argv: Sequence[str]) -> None:
    """Do what the first argument says."""
    from vgg_jax.errors import InputError

    verbs = {"save": save, "push": push, "fetch": fetch}
    if argv[1] not in verbs:
        raise InputError(f"unknown verb {argv[1]!r}: choose one of {', '.join(verbs)}")
    print(f"wrote {verbs[argv[1]](*argv[2:])}")


if __name__ == "__main__":
    run(main, arguments=("save|push|fetch", "FROM", "TO"))
