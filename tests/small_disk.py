"""A disk of a few MiB that a test may fill or make read-only."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, size="4m"):
    """``folder``, made, with a tmpfs on it; the test skips where it cannot be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"a small disk to fill needs the command mount, which did not start: {error}")
    if mounted.returncode:
        pytest.skip(f"a small disk to fill is mounted as tmpfs, which needs root: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder):
    """The small disk takes nothing in the meantime."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def fill(folder):
    """A file that takes all that is left."""
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while file.write(bytes(1 << 12)) == 1 << 12:
            pass
    return folder / "ballast"
