import hashlib
import json
import os
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vgg_jax.checksums import NAME, find_damage, has_checksums, write_checksums

CONTENTS = {"params/d/0a": b"weights", "params/manifest": b"where they are", "info": b"{}", "empty": b""}


@pytest.fixture
def folder(tmp_path):
    """A folder of a few files with its checksums."""
    return written(tmp_path)


def written(folder):
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_checksums(folder)
    return folder


def test_the_record_is_that_of_another_program(folder):
    files = json.loads((folder / NAME).read_text())["files"]
    assert {name: entry["bytes"] for name, entry in files.items()} == {n: len(c) for n, c in CONTENTS.items()}
    lines = "".join(f"{entry['sha256']}  {name}\n" for name, entry in files.items())
    subprocess.run(["sha256sum", "--check", "--strict"], cwd=folder, input=lines, text=True, check=True)


def test_what_was_written_has_no_damage(folder):
    assert has_checksums(folder)
    assert find_damage(folder) == []
    write_checksums(folder)  # again, beside itself
    assert find_damage(folder) == []


@pytest.mark.parametrize("name", [name for name, content in CONTENTS.items() if content])
def test_every_flipped_bit_is_noticed(folder, name):
    content = CONTENTS[name]
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(flipped)
        assert find_damage(folder) == [f"{name} has other bytes than were written"]


@pytest.mark.parametrize("name", CONTENTS)
def test_another_length_is_noticed(folder, name):
    size = len(CONTENTS[name])
    (folder / name).write_bytes(CONTENTS[name] + b"x")
    assert find_damage(folder) == [f"{name} has {size + 1} bytes, not {size}"]


@pytest.mark.parametrize("name", CONTENTS)
def test_a_missing_file_is_noticed(folder, name):
    (folder / name).unlink()
    assert find_damage(folder) == [f"{name} is missing"]


def test_all_damage_is_told_under_a_path_or_everywhere(folder):
    (folder / "info").unlink()
    (folder / "params/d/0a").write_bytes(b"Weights")
    (folder / "params/d/0b").write_bytes(b"more")
    under_params = ["params/d/0a has other bytes than were written", "params/d/0b was not there"]
    assert find_damage(folder) == ["info is missing", *under_params]
    assert find_damage(folder, "params/") == under_params
    assert find_damage(folder, "empty") == []


def test_a_file_that_is_no_ordinary_one(folder):
    (folder / "params/d/0a").unlink()
    os.mkfifo(folder / "params/d/0a")
    assert find_damage(folder) == ["params/d/0a has 0 bytes, not 7"]
    (folder / "empty").unlink()
    os.mkfifo(folder / "empty")  # of the right size; to open it would wait for a writer for ever
    assert find_damage(folder)[0].startswith("empty cannot be read")


def test_hidden_files_are_no_damage(folder):
    (folder / ".nfs0001").write_bytes(b"x")
    (folder / ".snapshots").mkdir()
    (folder / ".snapshots" / "x").write_bytes(b"x")
    assert find_damage(folder) == []


def test_a_folder_without_checksums(folder):
    (folder / NAME).unlink()
    assert not has_checksums(folder)
    assert find_damage(folder) == [f"{NAME} cannot be read"]


def sealed(files):
    """A record whose own digest is right, whatever it holds."""
    text = json.dumps(files, sort_keys=True)
    return json.dumps({"files": files, "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()


TRUE = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in CONTENTS.items()}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NAMES = st.sampled_from([*CONTENTS, "../info", "/etc/passwd", "params/../info", "params/d/0a/", ".", ""]) | st.text()
ENTRY = st.fixed_dictionaries(
    {}, optional={"bytes": JSON, "sha256": st.sampled_from([e["sha256"] for e in TRUE.values()]) | JSON, "x": JSON}
)
CHANGES = st.dictionaries(NAMES, st.sampled_from([*TRUE.values(), None]) | ENTRY | JSON, max_size=3)


def changed(changes):
    """The true record with entries replaced, added, or, for None, taken out."""
    files = {**TRUE, **changes}
    return {name: entry for name, entry in files.items() if entry is not None}


def flipped(record, position, mask):
    content = bytearray(record)
    content[position % len(content)] ^= mask
    return bytes(content)


RECORD = sealed(TRUE)
RECORDS = st.one_of(
    st.binary(),
    st.integers(0, len(RECORD) - 1).map(lambda end: RECORD[:end]),
    st.builds(flipped, st.just(RECORD), st.integers(0, len(RECORD)), st.integers(1, 255)),
    JSON.map(lambda value: json.dumps(value).encode()),
    JSON.map(sealed),
    CHANGES.map(changed).map(sealed),
    st.integers(1, 100_000).map(lambda depth: b"[" * depth),
    st.integers(1, 10_000).map(lambda digits: b'{"files": ' + b"9" * digits + b', "sha256": ""}'),
)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return written(tmp_path_factory.mktemp("intact"))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """One byte of the weights is another."""
    folder = written(tmp_path_factory.mktemp("damaged"))
    (folder / "params/d/0a").write_bytes(b"weightz")
    return folder


@example(record=sealed({**TRUE, "info": {"bytes": "\x1f", "sha256": ""}}))  # found by the long run
@given(record=RECORDS)
def test_fuzz_any_record_is_judged_and_the_weights_are_never_trusted_wrongly(intact, damaged, record):
    for folder in (intact, damaged):
        (folder / NAME).write_bytes(record)
    trusted = find_damage(intact) == []
    assert not trusted or json.loads(record)["files"] == TRUE
    found = find_damage(damaged)
    assert found
    assert all(line.isprintable() for line in found)
