"""Fetch published weights by name, check their SHA-256 where it is known, and say what was published of them.

python experiments/fetch_weights.py caffe_d VGG_ILSVRC_16_layers.caffemodel [--overwrite]
python experiments/fetch_weights.py NAME OUT --address=URL           the same file from another place
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from command_line import run

ADDRESS = flags.DEFINE_string("address", None, "Fetch from here; the SHA-256 stays that of the release.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Write OUT though it exists.")


def main(argv: Sequence[str]) -> None:
    """Fetch NAME to OUT."""
    from vgg_jax.errors import InputError
    from vgg_jax.weights.fetch import fetch
    from vgg_jax.weights.releases import find_release

    name, path = argv[1], Path(argv[2])
    release = find_release(name)
    if path.exists() and not OVERWRITE.value:
        raise InputError(f"{path} exists: choose another name, or add --overwrite")
    sha256 = fetch(ADDRESS.value or release.address, path, release.sha256)
    checked = f"as {release.sha256_from} says" if release.sha256 else "not compared with anything: none is known"
    print(f"wrote {path}: net {release.arch}, licence {release.licence}\nSHA-256 {sha256} ({checked})")
    print(f"next: python experiments/evaluate.py --weights={path} --expect={name} --data_path=IMAGENET ...")


if __name__ == "__main__":
    run(main, arguments=("NAME", "OUT"))
