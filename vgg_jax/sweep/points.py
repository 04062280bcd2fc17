"""The points of a sweep as data: the product of values of train.py's flags, and a readable name for each point."""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from vgg_jax.errors import InputError

LONGEST_NAME = 100  # characters; file systems end at 255, and the folders of a training lie below
SEPARATOR = "__"  # a comma separates workdirs in evaluate.py's flags


class Axis(NamedTuple):
    """One flag of train.py, without its dashes, and the values that it takes."""

    flag: str
    values: tuple[Any, ...]


class Point(NamedTuple):
    """One training: its name, the swept fields by their short names, and their flags in train.py's spelling."""

    name: str
    fields: dict[str, Any]
    flags: tuple[str, ...]


def parse_axis(text: str) -> Axis:
    """An axis from ``FLAG=LIST``, the list in JSON: numbers, words, true or false, and lists of these for tuples.

    A word is passed on as it is, so that any value can be given in train.py's spelling. Raises InputError.
    """
    flag, separator, values = text.partition("=")
    flag = flag.lstrip("-")
    example = "as --sweep='config.seed=[0,1]'"
    if not (flag and separator):
        raise InputError(f"--sweep={text} names no values: FLAG=LIST is expected, {example}")
    try:
        listed = json.loads(values)
    except json.JSONDecodeError as error:
        raise InputError(f"--sweep={text}: {values} is not JSON ({error}): a list is expected, {example}") from None
    if not isinstance(listed, list) or not listed:
        raise InputError(f"--sweep={text}: {values} is no list of values: a list is expected, {example}")
    for value in listed:
        if not _is_value(value):
            raise InputError(
                f"--sweep={text}: {json.dumps(value)} is no value of a flag: a number, a word, true, false or a list "
                "of these is expected"
            )
    return Axis(flag, tuple(listed))


def product(axes: Sequence[Axis]) -> list[Point]:
    """All points, the last axis changing fastest. Raises InputError for a flag swept twice and for equal points."""
    flags = [axis.flag for axis in axes]
    for flag in flags:
        if flags.count(flag) > 1:
            raise InputError(f"--sweep names {flag} twice: give all its values in one list")
    labels = short_names(flags)
    points = [_point(flags, labels, values) for values in itertools.product(*(axis.values for axis in axes))]
    names = [point.name for point in points]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two points of the sweep are the same ({name}): give each value once")
    return points


def check_shared(shared: Sequence[str], axes: Sequence[Axis]) -> None:
    """Raise InputError where a shared flag is swept as well, or is the workdir, which a sweep chooses."""
    names = [argument.lstrip("-").partition("=")[0] for argument in shared if argument.startswith("-")]
    for axis in axes:
        if axis.flag in names:
            raise InputError(f"--{axis.flag} is given and swept: leave one of the two out")
    if "workdir" in [*names, *(axis.flag for axis in axes)]:
        raise InputError("--workdir is chosen for each point of a sweep: give --runs, the folder of all of them")


def train_flags(shared: Sequence[str], point: Point) -> list[str]:
    """The flags of a point's training but for the workdir; a swept --config comes first, ml_collections wants it so."""
    return sorted([*shared, *point.flags], key=lambda flag: not flag.startswith("--config="))


def short_names(flags: Sequence[str]) -> list[str]:
    """For each flag its shortest ending, cut at dots, that no other flag has: learning_rate, or s256.learning_rate."""

    def endings(flag: str) -> list[str]:
        parts = flag.split(".")
        return [".".join(parts[i:]) for i in reversed(range(len(parts)))]

    others = {flag: {ending for other in flags if other != flag for ending in endings(other)} for flag in flags}
    return [next((ending for ending in endings(flag) if ending not in others[flag]), flag) for flag in flags]


def flag_text(value: Any) -> str:
    """A value in train.py's spelling: a list becomes a tuple, a word stays as it is."""
    return str(_as_tuple(value))


def _point(flags: Sequence[str], labels: Sequence[str], values: Sequence[Any]) -> Point:
    arguments = tuple(f"--{flag}={flag_text(value)}" for flag, value in zip(flags, values))
    return Point(_name(labels, values, arguments), dict(zip(labels, values)), arguments)


def _name(labels: Sequence[str], values: Sequence[Any], arguments: Sequence[str]) -> str:
    """A folder's name; where it cannot say all (slashes, great length) a digest of the flags is added."""
    whole = SEPARATOR.join(f"{label}={_shown(value)}" for label, value in zip(labels, values))
    name = re.sub(r"[^\w.=+-]+", "_", whole)[:LONGEST_NAME]
    if name == whole:
        return name
    return f"{name}-{hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:8]}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_shown, value))
    return value if isinstance(value, str) else json.dumps(value)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_value, value))
    return isinstance(value, (str, bool, int, float))
