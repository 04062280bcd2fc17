"""Whatever the bytes: decode_rgb gives an image or an InputError, within limits of memory, and says nothing else.

A long run, with its figures (100,000 inputs or more, some minutes):

    python -m pytest -n 0 -s tests/images/test_fuzz.py --hypothesis-profile=fuzz
"""

import collections
import json
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_images import BAD, GOOD, NOISE, SMOOTH, encode
from PIL import Image

LIMIT = 2**31  # bytes of address space beyond what the program has after its imports

# Decodes what comes in, in a process of its own: a crash, or memory without bounds, must not end the test.
CHILD = f"""
import json, resource, sys, warnings
warnings.simplefilter("always")
told = []
warnings.showwarning = lambda message, *_, **__: told.append(str(message))
import numpy as np
from vgg_jax.images.decode import InputError, _decode_any, conversions, decode_rgb, image_size, open_image

def outcome(data):
    quick = None
    try:
        quick = open_image(data, "name").decode_jpeg()
        if quick is not None and not np.array_equal(quick, _decode_any(open_image(data, "name"))):
            return "other pixels than PIL's"
        image = decode_rgb(data, "name")
    except InputError as error:
        if quick is not None:
            return f"decoded what PIL refuses: {{error}}"
        return "refused" if str(error).startswith("name: ") and "\\n" not in str(error) else f"badly told: {{error}}"
    if not (image.dtype == np.uint8 and image.shape == (*image_size(data), 3)):
        return f"an image {{image.dtype}} {{image.shape}}"
    conversions(data, "name.jpg")
    return "decoded"

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

with open("/proc/self/statm") as file:
    limit = int(file.read().split()[0]) * resource.getpagesize() + {LIMIT}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = peak()
for line in sys.stdin:
    try:
        answer = outcome(bytes.fromhex(line))
    except BaseException as error:
        answer = repr(error)
    print(json.dumps([answer, told, peak() - before]), flush=True)
    told.clear()
"""


def _frames(format, **options):
    first, second = Image.fromarray(SMOOTH), Image.fromarray(NOISE)
    return encode(first, format, save_all=True, append_images=[second], **options)


SMALL = SMOOTH[:24, :20]
FILES = [
    *(data for data in {**GOOD, **BAD}.values() if 0 < len(data) < 20_000),
    *(encode(SMALL, "JPEG", **options) for options in ({}, {"progressive": True}, {"subsampling": 0})),
    *(encode(Image.fromarray(SMALL).convert(mode)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(encode(SMALL, "WEBP", **options) for options in ({}, {"lossless": True})),
    *(encode(Image.fromarray(SMALL).convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")),
    *(encode(SMALL, "TIFF", compression=how) for how in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
    *(_frames(format) for format in ("GIF", "WEBP", "PNG", "TIFF", "MPO")),
]  # fmt: skip
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 20000, 2**15 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]

# Most of what decides stands at a file's beginning; the rest anywhere, in 65536ths of its length.
ANYWHERE = st.integers(0, 2**16).map(lambda part: part / 2**16)
PLACES = st.one_of(st.integers(0, 100), ANYWHERE, ANYWHERE, ANYWHERE)
CHANGES = st.one_of(
    st.tuples(st.just("set"), PLACES, st.binary(min_size=1, max_size=4)),
    st.tuples(
        st.just("set"),
        PLACES,
        st.builds(
            lambda number, size, order: (number % 2 ** (8 * size)).to_bytes(size, order),
            *(st.sampled_from(NUMBERS), st.sampled_from([1, 2, 4]), st.sampled_from(["big", "little"])),
        ),
    ),
    st.tuples(st.just("insert"), PLACES, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("cut"), PLACES, st.integers(1, 200)),
    st.tuples(st.just("repeat"), PLACES, st.integers(1, 200)),
    st.tuples(st.just("end"), PLACES, st.none()),
    st.tuples(st.just("go on as"), PLACES, st.sampled_from(FILES)),
)
STARTS = [
    *(b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"),
    *(b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"RIFF\x40\0\0\0WEBPVP8 "),
]


def changed(data, changes):
    for what, place, value in changes:
        at = int(place * len(data)) if isinstance(place, float) else min(place, len(data))
        if what == "set":
            data = data[:at] + value + data[at + len(value) :]
        elif what == "insert":
            data = data[:at] + value + data[at:]
        elif what == "cut":
            data = data[:at] + data[at + value :]
        elif what == "repeat":
            data = data[: at + value] + data[at:]
        elif what == "end":
            data = data[:at]
        else:
            data = data[:at] + value[at:]
    return data


# One drawing for many inputs: the same changes to each file, the same noise after each beginning.
CHANGED = st.lists(CHANGES, min_size=1, max_size=3).map(lambda changes: [changed(data, changes) for data in FILES])
INVENTED = st.binary(max_size=300).map(lambda noise: [start + noise for start in STARTS])
INPUTS = st.one_of(CHANGED, CHANGED, INVENTED)


class Decoder:
    """The child, started again where it died; `log` gets what it prints on its standard error."""

    def __init__(self, log):
        self.log, self.process = log.open("rb"), None
        self.written = log.open("ab")

    def __call__(self, data):
        if self.process is None or self.process.poll() is not None:
            pipe = subprocess.PIPE
            command = [sys.executable, "-c", CHILD]
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.written, text=True)
        self.process.stdin.write(f"{data.hex()}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        outcome, told, grown = json.loads(answer) if answer else [f"died with status {self.process.wait()}", [], 0]
        printed = self.log.read()
        # libtiff tells of damage on the standard error itself; PIL has no switch for it.
        if data[:2] not in (b"II", b"MM") or b"Warning" in printed or b"Traceback" in printed:
            told += printed.decode(errors="replace").splitlines()
        return outcome, told, grown

    def close(self):
        if self.process is not None:
            self.process.communicate()
        self.log.close()
        self.written.close()


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    log = tmp_path_factory.mktemp("fuzz") / "stderr"
    log.touch()
    decoder = Decoder(log)
    yield decoder
    decoder.close()


def test_an_image_or_an_input_error(decoder):
    outcomes, peak, slowest, start = collections.Counter(), 0, 0.0, time.monotonic()

    @settings(
        max_examples=max(500, settings.default.max_examples) // 25,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(INPUTS)
    def fuzz(inputs):
        nonlocal peak, slowest
        for data in inputs:
            began = time.monotonic()
            outcome, told, grown = decoder(data)
            slowest, peak = max(slowest, time.monotonic() - began), max(peak, grown)
            kind = outcome if outcome in ("decoded", "refused") else "anything else"
            outcomes[kind] += 1
            assert kind != "anything else" and not told, (outcome, told, data.hex())

    fuzz()
    assert outcomes["decoded"] and outcomes["refused"] and peak < LIMIT
    assert outcomes.total() >= settings.default.max_examples
    print(
        f"\n{outcomes.total()} inputs: {outcomes['decoded']} decoded, {outcomes['refused']} refused, "
        f"{outcomes['anything else']} anything else; memory grew by {peak / 2**20:.0f} MiB at most, "
        f"the slowest took {slowest:.1f} s, all {time.monotonic() - start:.0f} s"
    )
