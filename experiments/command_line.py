"""What the scripts share: a --config that lies beside the script, and a user's mistake told in one sentence."""

import contextlib
import ctypes
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
from absl import app, flags
from absl import logging as absl_logging
from jax.errors import JaxRuntimeError
from tqdm import tqdm

from vgg_jax import errors
from vgg_jax.errors import InputError
from vgg_jax.processes import LOST
from vgg_jax.signals import PREEMPTED, Stopped

HERE = Path(__file__).resolve().parent

_M_ARENA_MAX = -8  # of malloc.h

Main = Callable[[Sequence[str]], None]


def run(main: Main, *, arguments: Sequence[str] = (), pass_on: bool = False) -> None:
    """``app.run(main)``, where a flag that does not fit or an InputError ends in one sentence and exit status 1.

    arguments: names of what stands on the command line without dashes, which is main's argv[1:].
    pass_on: flags that nobody defined are main's arguments, for another script.
    """
    _show_own_log()
    _share_arenas()
    flags.FLAGS.set_gnu_getopt(pass_on or bool(arguments))  # read on behind what is no flag
    options = {"argv": with_config_found(sys.argv), "flags_parser": partial(parse_flags, known_only=pass_on)}
    app.run(_with_errors_told(main, arguments, pass_on), **options)


def _share_arenas() -> None:
    """Let few arenas of glibc's malloc serve all threads: one for each of them grows for hours by fragmentation.

    Children get the setting by the environment, which also chooses another number.
    """
    number = os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    with contextlib.suppress(OSError, AttributeError, ValueError):  # no glibc, no number
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, int(number))


class _AboveProgressBars(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        tqdm.write(prefix + self.format(record), file=sys.stderr)


def _show_own_log() -> None:
    """Our own log from INFO on, above the progress bars."""
    log = logging.getLogger("vgg_jax")
    log.setLevel(logging.INFO)
    log.addHandler(_AboveProgressBars())
    log.propagate = False


def _with_errors_told(main: Main, arguments: Sequence[str], pass_on: bool) -> Main:
    def wrapped(argv: Sequence[str]) -> None:
        if not pass_on:
            refuse_arguments(argv, arguments)
        if flags.FLAGS.verbosity == absl_logging.INFO:  # what app.run sets where --verbosity is not given
            absl_logging.set_verbosity(absl_logging.WARNING)  # orbax alone writes twenty lines a checkpoint
        try:
            main(argv)
        except (InputError, OSError) as error:  # an OSError names its file: a full disk, a folder that is no folder
            _end(f"error: {error}", 1)
        except FloatingPointError as error:  # of --debug_nans
            _end(f"error: a value that is not finite was computed{_place(error)}: {error}", 1)
        except Stopped:
            _end("stopped: the same command goes on from here", PREEMPTED)
        except JaxRuntimeError as error:
            if jax.process_count() == 1:
                raise
            _end(f"error: {str(error).splitlines()[0]}", LOST)

    return wrapped


def _place(error: Exception) -> str:
    """Where in our code an exception came from."""
    package = str(Path(errors.__file__).parent)
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(package)]
    return f" in {ours[-1].name} ({ours[-1].filename}:{ours[-1].lineno})" if ours else ""


def _end(sentence: str, status: int) -> None:
    """Say why and end; one of several processes must not wait for the others at its exit."""
    processes = jax.process_count()
    print(f"process {jax.process_index()}: {sentence}" if processes > 1 else sentence, file=sys.stderr, flush=True)
    if processes > 1:
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def refuse_arguments(argv: Sequence[str], expected: Sequence[str] = ()) -> None:
    """End in a sentence where anything but flags and the expected arguments was given."""
    given = argv[1:]
    if len(given) > len(expected):
        sys.exit(f"error: unexpected argument {given[len(expected)]!r}: options begin with --")
    if missing := expected[len(given) :]:
        sys.exit(f"error: {' and '.join(missing)} missing: the arguments are {' '.join(expected)}")


def parse_flags(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS, *, known_only: bool = False) -> list[str]:
    """``values(argv)``, which returns what is no flag; a mistake ends in one sentence."""
    try:
        return values(argv, known_only)
    except (AttributeError, KeyError) as error:  # ml_collections: no such field
        field = str(error.args[0]).splitlines()[0].strip("\"'")
        sys.exit(f"error: a --config flag names an unknown field ({field}): configs/base.py lists all fields")
    except (flags.Error, TypeError, ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


def with_config_found(argv: Sequence[str]) -> list[str]:
    """--config=configs/x.py means a file in the current directory, else one beside the script."""
    found = list(argv)
    for i, argument in enumerate(found):
        name, separator, path = argument.partition("=")
        if name in ("--config", "-config") and separator:
            found[i] = f"--config={_config_path(path)}"
        elif name in ("--config", "-config") and i + 1 < len(found):
            found[i + 1] = _config_path(found[i + 1])
    return found


def _config_path(path: str) -> str:
    file = path.partition(":")[0]  # ml_collections: what follows a colon is get_config's argument
    if Path(file).exists() or (HERE / file).exists():
        return path if Path(file).exists() else str(HERE / path)
    known = sorted(f"configs/{file.name}" for file in (HERE / "configs").glob("*.py") if file.stem != "base")
    sys.exit(f"error: --config={file} is neither here nor beside the script: choose one of {', '.join(known)}")
