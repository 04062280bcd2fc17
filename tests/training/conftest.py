"""What several tests of whole trainings share."""

import pytest
from tiny_training import compile_quickly, write_pictures


@pytest.fixture(scope="module")
def quick_compilation():
    """For tests of what the loop does: programs that run slowly but compile fast."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        compile_quickly(monkeypatch)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "tiny")
