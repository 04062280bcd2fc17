"""The table of releases, ours beside the published errors, and fetching, from files and a server of this machine."""

import functools
import hashlib
import http.server
import re
import threading

import pytest
from running_scripts import assert_one_error_line, script

from vgg_jax import ARCHITECTURES, InputError
from vgg_jax.weights.fetch import fetch
from vgg_jax.weights.releases import RELEASES, beside_published, find_release

DATA = bytes(range(256)) * 9000  # more than one piece
SHA256 = hashlib.sha256(DATA).hexdigest()
ROW = {"arch": "D", "method": "centre_crop", "test_scales": [256], "flip": False, "num_images": 50_000}


def test_the_table_is_sound():
    assert {name.split("_")[0] for name in RELEASES} == {"caffe", "matconvnet", "keras", "torchvision", "timm"}
    for name, release in RELEASES.items():
        assert release.arch in ARCHITECTURES
        assert release.address.startswith(("http://", "https://")) and release.licence
        assert (release.sha256 is None) == (release.sha256_from is None)
        if release.sha256 is not None:
            assert re.fullmatch("[0-9a-f]{8}([0-9a-f]{56})?", release.sha256), name
        for published in release.published:
            assert 0 < published.top5_error < published.top1_error < 50


def test_the_publishers_accuracies():
    """As torchvision and Keras print them, in accuracy."""
    accuracies = {"torchvision_a": (69.02, 88.628), "torchvision_b": (69.928, 89.246), "timm_d": (71.592, 90.382)}
    accuracies |= {"torchvision_e": (72.376, 90.876), "keras_d": (71.27, 90.05), "keras_e": (71.26, 89.99)}
    for name, (top1, top5) in accuracies.items():
        (published,) = RELEASES[name].published
        assert (published.method, published.scales, published.flip) == ("centre_crop", (256,), False)
        assert (published.top1_error, published.top5_error) == pytest.approx((100 - top1, 100 - top5))


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


def test_ours_stands_beside_the_published_errors():
    rows = [{**ROW, "flip": True, "top1_error": 1.0, "top5_error": 0.5}, {**ROW, "top1_error": 28.5, "top5_error": 9.5}]
    _, _, line = cells(beside_published(rows, "torchvision_d"))
    assert line[:8] == ["centre_crop, Q=256", "28.41", "28.50", "+0.09", "9.62", "9.50", "-0.12", "50000"]


def test_a_protocol_that_was_not_run_says_how_to():
    other = {**ROW, "arch": "E", "top1_error": 28.5, "top5_error": 9.5}  # of another net: not compared
    _, _, line = cells(beside_published([other], "torchvision_d"))
    assert line[2:4] == ["-", "-"]
    assert line[7] == "not run: --protocol=centre_crop --scales=256 --noflip"
    table = beside_published([], "caffe_e")
    assert [line[0] for line in cells(table)[2:]] == ["dense, Q=384, flip", "dense, Q=256,384,512, flip"]
    assert "--pool_rounding=ceil" in table
    assert beside_published([], "torchvision_d_features") == "no errors were published for torchvision_d_features"


def test_an_unknown_release():
    with pytest.raises(InputError, match="no release 'caffe_f' is known: choose one of caffe_d, caffe_e, "):
        find_release("caffe_f")


# -- fetching


@pytest.fixture
def server(tmp_path):
    """The address of a folder with the file "whole"; "cut" breaks off after half."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path not in ("/cut", "/no_length"):
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)) if self.path == "/cut" else "many")
            self.end_headers()
            self.wfile.write(DATA[: len(DATA) // 2])

        def log_message(self, *arguments):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "whole").write_bytes(DATA)
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("sha256", [None, SHA256, SHA256[:8]])
def test_a_file_is_fetched_whole(server, tmp_path, sha256, capfd):
    path = tmp_path / "net"
    assert fetch(f"{server}/whole", path, sha256) == SHA256
    assert path.read_bytes() == DATA
    assert "net:" in capfd.readouterr().err  # the progress bar
    assert fetch((tmp_path / "served" / "whole").as_uri(), path, sha256) == SHA256


@pytest.mark.parametrize(
    ("name", "sha256", "sentence"),
    [
        ("whole", "0" * 64, f"its SHA-256 is {SHA256}, not 000"),
        ("whole", "00000000", f"its SHA-256 is {SHA256}, not 00000000"),
        ("cut", None, f"was cut off: {len(DATA) // 2} of {len(DATA)} bytes came|cannot be fetched"),
        ("absent", None, "cannot be fetched: HTTP Error 404"),
        ("no_length", None, "cannot be fetched: invalid literal"),
    ],
)
def test_what_is_not_the_whole_right_file_leaves_the_old_one(server, tmp_path, name, sha256, sentence):
    path = tmp_path / "net"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match=sentence):
        fetch(f"{server}/{name}", path, sha256)
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net", "served"]
    with pytest.raises(InputError, match=r"^localhost/net cannot be fetched: unknown url type"):
        fetch("localhost/net", path)


def test_fetch_weights_by_name(server, tmp_path):
    out = tmp_path / "net.h5"
    run = script("fetch_weights.py", "keras_d", out, f"--address={server}/whole")
    assert run.returncode == 0, run.stderr
    assert out.read_bytes() == DATA
    assert f"SHA-256 {SHA256} (not compared with anything: none is known)" in run.stdout
    assert "net D, licence CC-BY-4.0" in run.stdout
    assert_one_error_line(script("fetch_weights.py", "keras_d", out, f"--address={server}/whole"), "--overwrite")
