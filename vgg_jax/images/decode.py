"""Image files to RGB arrays: whatever the file holds, training and evaluation see the same pixels."""

import contextlib
import dataclasses
import io
import logging
import os
import re
import threading
import warnings

import numpy as np
from PIL import ExifTags, Image

from vgg_jax.errors import InputError

MAX_PIXELS = 2**27  # Larger headers are decompression bombs: 384 MiB of RGB.
_LARGE = 2**26  # pixels from which on only one image is decoded at a time: more than cameras make
_STRIP = 2**22  # pixels that are converted at a time
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # By content, never by file name.
_CONVERTED = {
    **{"1": "one bit", "L": "grey", "I;16": "grey", "LA": "grey with alpha"},
    **{"P": "palette", "PA": "palette", "RGBA": "alpha", "CMYK": "CMYK"},
}
# Segments of a JPEG that do not turn it, as APP1 may (Exif, XMP), and their least lengths in bytes. PIL refuses some of
# the shorter ones and of the others.
_PLAIN_SEGMENTS = {
    **{b"\xff\xc0": 8, b"\xff\xc2": 8},  # baseline and progressive frames
    **{b"\xff\xc4": 2, b"\xff\xdb": 2, b"\xff\xdd": 2, b"\xff\xfe": 2},  # tables, restart interval, comment
    **{b"\xff\xe0": 16, b"\xff\xe2": 16, b"\xff\xee": 14},  # JFIF, colour profile, Adobe
}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# PIL warns of harmless damage in metadata (ImageNet has some) and of sizes that MAX_PIXELS judges here.  One filter for
# the process, because warnings.catch_warnings is not safe in the many threads that decode.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # its one error is raised as well
_one_large = threading.Lock()


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image file whose header was read and accepted, by `open_image`; its pixels are not decoded yet."""

    data: bytes
    name: str
    size: tuple[int, int]  # (height, width) of the decoded image, after the EXIF rotation
    ordinary: bool  # by its header an upright JPEG, grey or RGB

    def decode(self) -> np.ndarray:
        """The pixels, uint8 [H, W, 3], as `decode_rgb` describes them."""
        pixels = self.decode_jpeg()
        return _decode_any(self) if pixels is None else pixels

    def decode_jpeg(self, reduction: int = 1) -> np.ndarray | None:
        """The pixels by libjpeg-turbo alone, at 1 / reduction (1, 2, 4 or 8) of the size, rounded up; else None.

        At reduction 1 they are PIL's to the bit, without its copies.  Whatever is not an ordinary upright JPEG, grey
        or RGB, without a fault, gives None: there PIL decides what it is and what is wrong with it.
        """
        if not self.ordinary or self.size[0] * self.size[1] > _LARGE:
            return None
        import simplejpeg  # Here, so that arrays can be evaluated where it is absent.

        height, width = (-(-side // reduction) for side in self.size)
        least = {} if reduction == 1 else {"min_height": height, "min_width": width}
        try:
            # Into our own memory, of the size that was checked: libjpeg must not choose it by another reading.
            pixels = simplejpeg.decode_jpeg(self.data, buffer=np.empty((height, width, 3), np.uint8), **least)
        except ValueError:  # Any fault, those that libjpeg conceals too.
            return None
        return pixels if pixels.shape == (height, width, 3) else None


def open_image(data: bytes, name: str = "image") -> EncodedImage:
    """Read the header of an image file.

    Raises InputError naming `name` where it cannot be read or announces more than MAX_PIXELS.
    """
    size = _plain_jpeg_size(data)
    if size is not None:
        return EncodedImage(data, name, size, ordinary=True)
    header = _open(data, name)
    orientation, (width, height) = _orientation(header), header.size
    ordinary = header.format == "JPEG" and header.mode in ("RGB", "L") and orientation == 1
    return EncodedImage(data, name, (width, height) if orientation >= 5 else (height, width), ordinary)


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """The (height, width) that `decode_rgb` gives, from the header alone; raises InputError as `open_image`."""
    return open_image(data, name).size


def decode_rgb(data: bytes, name: str = "image") -> np.ndarray:
    """Decode a JPEG, PNG, BMP, GIF (first frame), WebP or TIFF file, told by its content, to uint8 [H, W, 3].

    Gray is repeated, CMYK converted (inverted as Adobe writes it), a palette looked up, alpha dropped, 16 bits cut to
    the upper 8; the EXIF rotation is applied, a colour profile is not.  What follows the end of the image is ignored;
    a file that ends before it is truncated.  Raises InputError naming `name` where the file is empty, truncated, not
    an image, or larger than MAX_PIXELS by its header, which is read before anything is decoded.
    """
    return open_image(data, name).decode()


def conversions(data: bytes, name: str = "image") -> list[str]:
    """What `decode_rgb` changes in a file that it can decode, from the header; nothing for upright RGB of 8 bits.

    Raises InputError as `image_size`.
    """
    image = _open(data, name)
    kind = [] if image.mode == "RGB" else [_CONVERTED.get(image.mode, image.mode)]
    deep = image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    expected = Image.registered_extensions().get(os.path.splitext(name)[1].lower(), image.format)
    return (
        kind
        + ["16 bits a channel"] * deep
        + ["rotated by EXIF"] * (_orientation(image) != 1)
        + [f"{image.format} named {expected}"] * (expected != str(image.format).replace("MPO", "JPEG"))
        + ["several frames"] * (image.format != "MPO" and _is_animated(image))
    )


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # A damaged second frame says nothing against the first.
        return False


def _plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG, grey or RGB, which nothing before its pixels may turn, by libjpeg-turbo; else None.

    Of such files PIL reads the same from the header, in more than twice the time.
    """
    if not _is_plain_jpeg(data):
        return None
    import simplejpeg  # Here, so that arrays can be evaluated where it is absent.

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except Exception:  # a fault; KeyError for 4:4:1, which the binding has no name for
        return None
    return (height, width) if colours in ("Gray", "YCbCr", "RGB") and height * width <= MAX_PIXELS else None


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether plain segments alone lead up to the pixels (SOS)."""
    place = 2
    while least := _PLAIN_SEGMENTS.get(data[place : place + 2]):
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if length < least:
            return False
        place += 2 + length
    return data[:2] == b"\xff\xd8" and data[place : place + 2] == b"\xff\xda"


def _decode_any(encoded: EncodedImage) -> np.ndarray:
    """The pixels by PIL, which reads every format."""
    image, name = _open(encoded.data, encoded.name), encoded.name
    orientation = _orientation(image)
    large = image.width * image.height > _LARGE
    try:
        with _one_large if large else contextlib.nullcontext():
            image.load()
            if image.mode in ("I", "F"):
                raise InputError(
                    f"{name}: has 32-bit pixels (mode {image.mode}), expected 8 or 16 bits a channel; convert it"
                )
            if orientation in _UPRIGHT:
                image = image.transpose(_UPRIGHT[orientation])
            return _rgb(image)
    except InputError:
        raise
    except Exception as error:  # PIL's readers raise OSError, SyntaxError, struct.error, zlib.error, IndexError, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: cannot be decoded ({reason}); mend the file") from error


def _open(data: bytes, name: str) -> Image.Image:
    if not data:
        raise InputError(f"{name}: is empty (0 bytes), expected an image; mend the file")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # a warning where those are errors
        found = re.search(r"\d+", str(error))
        raise _too_large(name, found[0] if found else "too many") from error
    except Exception as error:
        raise InputError(
            f"{name}: is not a readable image ({len(data)} bytes starting with {data[:8]!r}), "
            f"expected one of {', '.join(_FORMATS)}; mend the file"
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f"{image.height} x {image.width}")
    return image


def _too_large(name: str, pixels: str) -> InputError:
    return InputError(f"{name}: announces {pixels} pixels, at most {MAX_PIXELS} are accepted; make it smaller")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that is still to be undone."""
    if image.format == "TIFF":  # PIL turns TIFF files itself.
        return 1
    try:
        # The base class's method: PNG's own would decode all pixels in search of late metadata.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # Damaged metadata says nothing against the pixels.
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    image.info.pop("transparency", None)
    if image.width * image.height <= _STRIP:
        return np.asarray(image.convert("RGB"))
    pixels = np.empty((image.height, image.width, 3), np.uint8)  # Strip by strip: half the memory of the whole at once.
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = np.asarray(strip.convert("RGB"))
    return pixels
