"""Lists of bad images, and what on_error does with them."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from vgg_jax.data.bad_images import (
    check_on_error,
    in_one_line,
    is_passed_over,
    note_bad_images,
    read_bad_images,
    write_bad_images,
)
from vgg_jax.errors import InputError

LATIN = os.fsdecode(b"caf\xe9.jpg")  # a name that is no valid text


def test_names_and_reasons_come_back(tmp_path):
    path = tmp_path / "bad_images.txt"
    bad = {"b.jpg": "is empty", LATIN: "is\ta\ntext", "a b.jpg": "", "x\ny.jpg": ""}
    write_bad_images(path, bad)
    assert path.read_bytes().splitlines() == [
        b"a b.jpg",
        b"b.jpg\tis empty",
        b"caf\xe9.jpg\tis\\ta\\ntext",
        b"x\\ny.jpg",
    ]
    read = read_bad_images(path)
    assert read == {"a b.jpg": "", "b.jpg": "is empty", LATIN: "is\\ta\\ntext", "x\\ny.jpg": ""}
    assert {in_one_line(name) for name in bad} == set(read)


def test_each_name_is_noted_and_told_once(tmp_path, caplog):
    path = tmp_path / "bad_images.txt"
    note_bad_images(path, [], "left out")
    assert not list(tmp_path.iterdir())
    with caplog.at_level(logging.WARNING):
        for names in (["b", LATIN], ["b"], ["c", "b"], [f"d{i:02}" for i in range(12)]):
            note_bad_images(path, names, "left out")
    assert list(read_bad_images(path)) == sorted(["b", LATIN, "c", *(f"d{i:02}" for i in range(12))])
    assert [message.partition(" (")[0] for message in caplog.messages] == [
        "left out: b, caf\\udce9.jpg",
        "left out: c",
        "left out: d00, d01, d02, d03, d04, d05, d06, d07, d08, d09 and 2 more",
    ]


def test_reasons_stay_where_names_are_added(tmp_path):
    path = tmp_path / "bad_images.txt"
    write_bad_images(path, {"a": "is empty"})
    note_bad_images(path, ["a", "b"], "left out")
    assert read_bad_images(path) == {"a": "is empty", "b": ""}


def test_several_writers(tmp_path):
    path = tmp_path / "bad_images.txt"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: note_bad_images(path, [f"{i}", f"{i // 2}"], "left out"), range(40)))
    assert sorted(read_bad_images(path), key=int) == [str(i) for i in range(40)]


def test_what_is_passed_over(tmp_path):
    listing = tmp_path / "bad_images.txt"
    write_bad_images(listing, {"a": "is empty", "b\n": ""})
    assert not is_passed_over("raise", "a")
    assert is_passed_over("skip", "anything")
    assert [is_passed_over(f"skip:{listing}", name) for name in ("a", "b\n", "c")] == [True, True, False]
    check_on_error(f"skip:{listing}")


@pytest.mark.parametrize("on_error", ["ignore", "skip:", "raise:x", ""])
def test_unknown_choices(on_error):
    with pytest.raises(InputError, match="choose one of raise, skip, skip:FILE"):
        check_on_error(on_error)


def test_a_missing_list_is_told(tmp_path):
    with pytest.raises(InputError, match=r"missing\.txt cannot be read \(No such file or directory\)"):
        check_on_error(f"skip:{tmp_path / 'missing.txt'}")
