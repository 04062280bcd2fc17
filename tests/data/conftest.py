"""ImageNet's tars in miniature, made once a test file."""

import pytest
from imagenet_miniature import draw_pictures, write_originals


@pytest.fixture(scope="module")
def pictures():
    return draw_pictures()


@pytest.fixture(scope="module")
def originals(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    write_originals(folder, pictures)
    return folder
