"""Image files as real data sets have them: odd ones that must decode, and bad ones that must be reported."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_RNG = np.random.default_rng(0)
NOISE = _RNG.integers(0, 256, (60, 50, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(_RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)).resize((50, 60)))


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, format, **options)
    return buffer.getvalue()


def png_of_16_bits(pixels):
    """PIL writes no PNG of 16-bit colours."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
        + _png_chunk(b"IDAT", zlib.compress(rows))
        + _png_chunk(b"IEND", b"")
    )


def _png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _animated():
    frames = [Image.new("RGB", (50, 60), colour) for colour in ((200, 10, 10), (10, 200, 10))]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


JPEG = encode(SMOOTH, "JPEG", quality=95)

GOOD = {
    "cmyk.jpg": encode(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"),
    "a_png_named.jpg": encode(SMOOTH),
    "grey_of_16_bits.png": encode(SMOOTH[..., 0].astype(np.uint16) * 257),
    "colour_of_16_bits.png": png_of_16_bits(SMOOTH),
    "one_pixel.png": encode(SMOOTH[:1, :1]),
    "a_line.png": encode(_RNG.integers(0, 256, (1, 5000, 3), dtype=np.uint8)),
    "rotated.jpg": encode(SMOOTH, "JPEG", exif=_rotated()),
    "grey.jpg": encode(SMOOTH[..., 0], "JPEG"),
    "palette.png": encode(Image.fromarray(SMOOTH).quantize(16)),
    "alpha.png": encode(np.concatenate([SMOOTH, NOISE[..., :1]], axis=2)),
    "animated.gif": _animated(),
    "profile.jpg": encode(SMOOTH, "JPEG", icc_profile=b"no profile, really"),
    "trailing_garbage.jpg": JPEG + b"garbage" * 100,
    "UPPER.JPEG": encode(SMOOTH, "JPEG", progressive=True),
}


def png_header(width, height):
    sizes = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", sizes) + b"\0\0\0\0IDAT"


def _jpeg(width, height):
    start = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


def _gif(width, height, frame_width, frame_height):
    frame = struct.pack("<HHHH", 0, 0, frame_width, frame_height)
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80" + b"\0" * 8 + b"," + frame + b"\0\x08\x02\x4c\x01\0;"


def _bmp(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + header + b"\0" * 46


def _tiff(width, height):
    data = bytearray(encode(NOISE, "TIFF"))
    (table,) = struct.unpack_from("<I", data, 4)
    sizes = {256: width, 257: height, 278: height}
    for entry in range(table + 2, table + 2 + 12 * struct.unpack_from("<H", data, table)[0], 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in sizes:
            struct.pack_into("<HHII", data, entry, tag, 4, 1, sizes[tag])
    return bytes(data)


def _webp(width, height):
    sizes = b"\0" * 4 + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + sizes


BOMBS = {
    "bomb.png": png_header(20000, 20000),
    "bomb.jpg": _jpeg(20000, 20000),
    "bomb.gif": _gif(20000, 20000, 20000, 20000),
    "bomb_in_a_frame.gif": _gif(1, 1, 20000, 20000),
    "bomb.bmp": _bmp(20000, 20000),
    "bomb.tif": _tiff(20000, 20000),
    "bomb.webp": _webp(16384, 16384),
    "wide_bomb.webp": _webp(2**24, 2**7),
    "smaller_bomb.png": png_header(11586, 11586),
}

BAD = {
    "truncated.jpg": JPEG[: len(JPEG) // 2],
    "truncated_progressive.jpg": GOOD["UPPER.JPEG"][: len(GOOD["UPPER.JPEG"]) // 2],
    "without_its_end.jpg": JPEG[:-2],
    "truncated.png": encode(NOISE)[:4000],
    "truncated.webp": encode(NOISE, "WEBP")[:-50],
    "zero_bytes.jpg": b"",
    "text.jpg": b"<html>404 Not Found</html>",
    **BOMBS,
}


def write_odd_folder(root, classes=("a", "b"), ordinary=20):
    """A folder of classes: ordinary pictures, each odd one and each bad one once, and what is no file at all.

    Returns the names of the bad files, sorted.
    """
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(ordinary):
            colour = np.array([40 + 150 * number, 100, 200 - 150 * number])
            pixels = np.random.default_rng(i).normal(colour, 30, (40 + i % 7, 52 - i % 5, 3)).clip(0, 255)
            (root / name / f"ordinary{i:03}.jpg").write_bytes(encode(pixels.astype(np.uint8), "JPEG"))
    bad = []
    for number, (name, data) in enumerate([*GOOD.items(), *BAD.items()]):
        file = f"{classes[number % len(classes)]}/{name}"
        (root / file).write_bytes(data)
        bad += [file] * (name in BAD)
    (root / classes[0] / "a_folder.jpg").mkdir()
    (root / classes[0] / "notes.txt").write_text("no image, and not named as one")
    (root / classes[0] / "leads_nowhere.jpg").symlink_to("gone.jpg")
    (root / classes[1] / "in_a_circle.jpg").symlink_to("in_a_circle.jpg")
    return sorted([*bad, f"{classes[0]}/leads_nowhere.jpg", f"{classes[1]}/in_a_circle.jpg"])
