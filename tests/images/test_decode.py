"""decode_rgb against known pixels, for every kind of file that data sets hold."""

import io
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import simplejpeg
from odd_images import BAD, BOMBS, GOOD, SMOOTH, encode, png_header
from PIL import Image, ImageFile

from vgg_jax.errors import InputError
from vgg_jax.images import decode
from vgg_jax.images.decode import MAX_PIXELS, decode_rgb, image_size, open_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
# What the viewer of a file with this EXIF orientation sees, written with numpy.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def decoded(data):
    pixels = decode_rgb(data)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert image_size(data) == pixels.shape[:2]
    return pixels


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_rgb_comes_back_exactly(format):
    np.testing.assert_array_equal(
        decoded(encode(PIXELS, format, **({"lossless": True} if format == "WEBP" else {}))), PIXELS
    )


def test_jpeg_of_one_colour_and_a_png_by_the_name_of_jpg():
    flat = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    assert np.abs(decoded(encode(flat, "JPEG", quality=100)).astype(int) - flat).max() <= 2
    np.testing.assert_array_equal(decode_rgb(encode(PIXELS), "n0001.jpg"), PIXELS)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_gray_is_repeated(format):
    gray = np.full((8, 9), 77, np.uint8)
    np.testing.assert_array_equal(decoded(encode(gray, format)), np.full((8, 9, 3), 77))


def test_one_bit_and_gray_with_alpha():
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    np.testing.assert_array_equal(decoded(encode(bits))[..., 0], [[0, 255], [255, 0]])
    gray_alpha = Image.merge("LA", [Image.new("L", (3, 2), 40), Image.new("L", (3, 2), 0)])
    np.testing.assert_array_equal(decoded(encode(gray_alpha)), np.full((2, 3, 3), 40))


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])  # PIL writes JPEG inverted with Adobe's marker, TIFF as it is
def test_cmyk(format):
    cyan, magenta, yellow, black = ink = (51, 102, 204, 25)
    data = encode(Image.new("CMYK", (16, 16), ink), format, **({"quality": 100} if format == "JPEG" else {}))
    assert (b"Adobe" in data) == (format == "JPEG")
    expected = [(255 - c) * (255 - black) / 255 for c in (cyan, magenta, yellow)]
    assert np.abs(decoded(data) - np.array(expected)).max() <= 2


@pytest.mark.parametrize("format, transparency", [("PNG", 1), ("PNG", bytes([0, 128, 255])), ("GIF", 1)])
def test_palette_with_transparency_keeps_the_colours(format, transparency):
    palette = np.array([[250, 10, 20], [30, 240, 50], [5, 60, 230]], np.uint8)
    indices = np.array([[0, 1, 2, 0], [2, 1, 0, 1]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    data = encode(image, format, transparency=transparency)
    np.testing.assert_array_equal(decoded(data), palette[indices])


def test_alpha_is_dropped():
    rgba = np.concatenate([PIXELS, RNG.integers(0, 256, (5, 7, 1), dtype=np.uint8)], axis=2)
    np.testing.assert_array_equal(decoded(encode(rgba)), PIXELS)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_gray_keeps_the_upper_eight(format):
    data = encode(np.array([[0xABCD, 0x00FF], [0xFFFF, 0x0100]], np.uint16), format)
    np.testing.assert_array_equal(decoded(data)[..., 1], [[0xAB, 0x00], [0xFF, 0x01]])


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_exif_orientation(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_rgb(encode(PIXELS, "JPEG")) if format == "JPEG" else PIXELS
    np.testing.assert_array_equal(decoded(encode(PIXELS, format, exif=exif)), UPRIGHT[orientation](pixels))


BETWEEN = {
    "nothing": b"",
    "a comment": b"\xff\xfe\x00\x06text",
    "what looks like pixels in a profile": b"\xff\xe2\x00\x06\xff\xda\xff\xda",
    "a byte to fill": b"\xff",
    "a marker without a length": b"\xff\xd0",
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("kind", ["Exif", "XMP"])
def test_an_orientation_of_a_jpeg_is_found_behind_other_segments(kind, between):
    metadata = b'http://ns.adobe.com/xap/1.0/\0<x xmlns:tiff="t" tiff:Orientation="6"/>'
    if kind == "Exif":
        exif = Image.Exif()
        exif[0x0112] = 6
        metadata = exif.tobytes()
    data = encode(PIXELS, "JPEG")
    segment = b"\xff\xe1" + (2 + len(metadata)).to_bytes(2, "big") + metadata
    turned = data[:2] + BETWEEN[between] + segment + data[2:]
    np.testing.assert_array_equal(decode_rgb(turned), np.rot90(decode_rgb(data), -1))
    assert image_size(turned) == (7, 5)


def test_mpo_of_several_pictures_gives_the_first():
    first, second = (Image.fromarray(pixels) for pixels in (SMOOTH, SMOOTH[::-1]))
    data = encode(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_gif_gives_its_first_frame():
    frames = [Image.new("P", (4, 3), colour) for colour in (0, 1)]
    for frame in frames:
        frame.putpalette([9, 8, 7, 200, 100, 50])
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decoded(data), np.full((3, 4, 3), (9, 8, 7)))


NOISE = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
JPEG = encode(NOISE, "JPEG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image at all",
        JPEG[: len(JPEG) // 2],
        JPEG[:40],
        encode(NOISE)[:2000],
        encode(NOISE, "TIFF")[:2000],
        png_header(20000, 20000),
        encode(np.ones((4, 4), np.float32), "TIFF"),
    ],
    ids=["empty", "text", "half", "header", "png", "tiff", "bomb", "float"],
)
def test_a_bad_file_is_named(data):
    with pytest.raises(InputError, match=r"bad/file\.jpg: ") as raised:
        decode_rgb(data, "bad/file.jpg")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [b"", b"not an image at all", png_header(20000, 20000)])
def test_a_bad_header_is_named(data):
    with pytest.raises(InputError, match=r"bad/file\.jpg: "):
        image_size(data, "bad/file.jpg")


def test_size_needs_the_header_only(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded pixels"))
    assert image_size(encode(NOISE)) == (64, 64)
    assert image_size(JPEG[: len(JPEG) // 2]) == (64, 64)
    assert image_size(png_header(300, 200)) == (200, 300)


def test_damaged_metadata_and_large_headers_are_read_without_a_word(tmp_path):
    """In a process of its own, whose warnings are errors except for what the package itself silences."""
    exif = Image.Exif()
    exif[0x010F] = "a maker's name that is longer than four bytes"
    data = bytearray(encode(PIXELS, "JPEG", exif=exif))
    start = data.index(b"Exif\0\0") + 6
    data[start + 18 : start + 22] = b"\xff\xff\xff\x7f"  # the offset of the maker's name, far outside the block
    (tmp_path / "exif.jpg").write_bytes(data)
    side = 11585  # more than PIL accepts without a warning
    assert Image.MAX_IMAGE_PIXELS < side * side <= MAX_PIXELS < (side + 1) ** 2
    (tmp_path / "large.png").write_bytes(png_header(side, side))
    (tmp_path / "larger.png").write_bytes(png_header(side + 1, side + 1))
    code = f"""
from pathlib import Path
from vgg_jax.images.decode import decode_rgb, image_size, InputError
folder = Path({str(tmp_path)!r})
assert decode_rgb((folder / "exif.jpg").read_bytes()).shape == (5, 7, 3)
assert image_size((folder / "large.png").read_bytes()) == ({side}, {side})
try:
    image_size((folder / "larger.png").read_bytes(), "larger")
except InputError as error:
    assert "larger: announces" in str(error)
else:
    raise AssertionError
"""
    result = subprocess.run([sys.executable, "-W", "error:::PIL", "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", GOOD)
def test_odd_files_decode(name):
    pixels = decoded(GOOD[name])
    shape = {"one_pixel.png": (1, 1, 3), "a_line.png": (1, 5000, 3), "rotated.jpg": (50, 60, 3)}
    assert pixels.shape == shape.get(name, SMOOTH.shape)


def test_sixteen_bit_colours_keep_the_upper_eight():
    np.testing.assert_array_equal(decode_rgb(GOOD["colour_of_16_bits.png"]), SMOOTH)


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line(name):
    with pytest.raises(InputError) as raised:
        decode_rgb(BAD[name], name)
    assert str(raised.value).startswith(f"{name}: ") and "\n" not in str(raised.value)


def test_bombs_are_refused_by_their_headers(tmp_path):
    """In a process of its own, whose peak of memory stays where it is, also where PIL's own limit is off."""
    for name, data in BOMBS.items():
        (tmp_path / name).write_bytes(data)
    code = f"""
import resource
from pathlib import Path
from PIL import Image
from vgg_jax.images.decode import decode_rgb, InputError
Image.init()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for limit in (Image.MAX_IMAGE_PIXELS, None):
    Image.MAX_IMAGE_PIXELS = limit
    for file in Path({str(tmp_path)!r}).iterdir():
        try:
            decode_rgb(file.read_bytes(), file.name)
        except InputError as error:
            print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    *messages, growth = result.stdout.splitlines()
    assert len(messages) == 2 * len(BOMBS)
    for message in messages[: len(BOMBS)]:
        assert ": announces " in message and str(MAX_PIXELS) in message
    assert int(growth) < 32 * 1024  # KiB


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "LA"])
def test_strips_give_the_pixels_of_the_whole(monkeypatch, mode):
    data = encode(Image.fromarray(SMOOTH).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    whole = decode_rgb(data)
    monkeypatch.setattr(decode, "_STRIP", 7 * SMOOTH.shape[1])
    np.testing.assert_array_equal(decode_rgb(data), whole)


@pytest.mark.parametrize("large, at_once", [(0, {1}), (2**30, {2, 3, 4})])
def test_large_images_are_decoded_one_at_a_time(monkeypatch, large, at_once):
    running, most = 0, 0

    def counting(image):
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.05)
        running -= 1
        return np.asarray(image)

    monkeypatch.setattr(decode, "_LARGE", large)
    monkeypatch.setattr(decode, "_rgb", counting)
    threads = [threading.Thread(target=decode_rgb, args=(encode(SMOOTH),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most in at_once


def pil(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


ORDINARY = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "coarse": {"quality": 5},
    "colours not transformed": {"keep_rgb": True},
    "restart markers": {"restart_marker_blocks": 3},
}


@pytest.mark.parametrize("size", [(60, 50), (47, 33), (1, 17), (8, 1)])
@pytest.mark.parametrize("how", ORDINARY)
def test_libjpeg_turbo_alone_gives_the_bits_of_pil(how, size):
    pixels = np.asarray(Image.fromarray(SMOOTH).resize(size[::-1]))
    for data in (encode(pixels, "JPEG", **ORDINARY[how]), encode(pixels[..., 1], "JPEG", **ORDINARY[how])):
        np.testing.assert_array_equal(open_image(data).decode_jpeg(), pil(data))


@pytest.mark.parametrize("sampling", ["444", "422", "440", "420", "411", "441"])
def test_every_sampling(sampling):
    """441, for which simplejpeg has no name, is 411 turned by hand: another frame around as many blocks."""
    pixels = np.ascontiguousarray(SMOOTH[:32, :32])
    data = simplejpeg.encode_jpeg(pixels, colorsubsampling="411" if sampling == "441" else sampling)
    if sampling == "441":
        frame = data.index(b"\xff\xc0")
        size, factors = data[frame + 5 : frame + 9], frame + 11
        data = data[: frame + 5] + size[2:] + size[:2] + data[frame + 9 : factors] + b"\x14" + data[factors + 1 :]
    np.testing.assert_array_equal(decode_rgb(data), pil(data))
    np.testing.assert_array_equal(open_image(data).decode_jpeg(), pil(data))


# Segments that PIL refuses and libjpeg does not.
CUT_SEGMENTS = {
    "JFIF": b"\xff\xe0\x00\x06JFIF",
    "Adobe": b"\xff\xee\x00\x08Adobe\x00",
    "a colour profile": b"\xff\xe2\x00\x0fICC_PROFILE\0\x01",
    "Photoshop's": b"\xff\xed\x00\x16Photoshop 3.0\0" + b"8BIM\x04\x04",
}


@pytest.mark.parametrize("segment", CUT_SEGMENTS)
def test_a_jpeg_whose_header_pil_refuses_is_refused(segment):
    data = encode(SMOOTH, "JPEG")
    with pytest.raises(InputError, match="not a readable image"):
        open_image(data[:2] + CUT_SEGMENTS[segment] + data[2:])


def test_libjpeg_turbo_alone_gives_the_bits_of_pil_on_photographs(real_data):
    for path in sorted([*(real_data / "imagenet_sample").iterdir(), *(real_data / "caltech101/cougar_body").iterdir()]):
        encoded = open_image(path.read_bytes(), path.name)
        pixels = encoded.decode_jpeg()
        assert pixels is not None or not encoded.ordinary
        if pixels is not None:
            np.testing.assert_array_equal(pixels, pil(path.read_bytes()), err_msg=path.name)


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_jpeg_is_rounded_up_in_size(reduction):
    data = encode(SMOOTH[:47, :33], "JPEG", quality=95)
    pixels = open_image(data).decode_jpeg(reduction)
    assert pixels.shape == (-(-47 // reduction), -(-33 // reduction), 3)
    draft = Image.open(io.BytesIO(data))
    draft.draft("RGB", (33 // reduction, 47 // reduction))
    np.testing.assert_array_equal(pixels, np.asarray(draft))


UNUSUAL = [name for name, data in {**GOOD, **BAD}.items() if name not in ("grey.jpg", "UPPER.JPEG", "profile.jpg")]


@pytest.mark.parametrize("name", [name for name in UNUSUAL if name != "trailing_garbage.jpg" and "bomb" not in name])
def test_what_is_no_ordinary_jpeg_is_left_to_pil(name):
    try:
        encoded = open_image({**GOOD, **BAD}[name], name)
    except InputError:
        return  # refused by its header
    assert encoded.decode_jpeg() is None


def test_a_size_that_libjpeg_reads_otherwise_is_left_to_pil():
    """The memory is that of the header that was checked."""
    data, small = encode(SMOOTH, "JPEG"), encode(SMOOTH[:8, :8], "JPEG")
    assert decode.EncodedImage(data, "x", (8, 8), ordinary=True).decode_jpeg() is None
    assert decode.EncodedImage(small, "x", SMOOTH.shape[:2], ordinary=True).decode_jpeg() is None
