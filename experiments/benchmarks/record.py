"""What every benchmark writes down beside its figures: device, versions, date, commit."""

import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

_PACKAGES = (
    *("jax", "jaxlib", "flax", "numpy", "orbax-checkpoint", "grain", "pillow", "simplejpeg"),
    *("torch", "torchvision", "keras"),
)


def device() -> str:
    """The machine in words."""
    return f"{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"


def versions() -> dict[str, str]:
    """Of Python, and of those packages that matter and are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def commit() -> str | None:
    """The repository's commit, marked where files differ from it; None outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return run.stdout.strip() or None


def write_record(
    path: str, rows: Sequence[Mapping[str, Any]], ratios: Mapping[str, float], setting: Mapping[str, Any] | None = None
) -> None:
    """Write the figures of a benchmark as JSON, and append them to history.jsonl beside it: a line for each run.

    setting: what was measured.
    """
    record = {
        "device": device(),
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "setting": dict(setting or {}),
        "rows": list(rows),
        "ratios": dict(ratios),
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(record, indent=1) + "\n")
    with Path(path).with_name("history.jsonl").open("a") as history:
        history.write(json.dumps({"benchmark": Path(sys.argv[0]).stem, **record}) + "\n")
