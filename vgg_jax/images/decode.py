"""Image files to RGB arrays: whatever the file holds, training and evaluation see the same pixels."""

import contextlib
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


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """The (height, width) that `decode_rgb` gives, from the header alone, after the EXIF rotation.

    Raises InputError naming `name` where the header cannot be read or announces more than MAX_PIXELS.
    """
    image = _open(data, name)
    width, height = image.size
    return (width, height) if _orientation(image) >= 5 else (height, width)


def decode_rgb(data: bytes, name: str = "image") -> np.ndarray:
    """Decode a JPEG, PNG, BMP, GIF (first frame), WebP or TIFF file, told by its content, to uint8 [H, W, 3].

    Gray is repeated, CMYK converted (inverted as Adobe writes it), a palette looked up, alpha dropped, 16 bits cut to
    the upper 8; the EXIF rotation is applied, a colour profile is not.  What follows the end of the image is ignored;
    a file that ends before it is truncated.  Raises InputError naming `name` where the file is empty, truncated, not
    an image, or larger than MAX_PIXELS by its header, which is read before anything is decoded.
    """
    image = _open(data, name)
    large = image.width * image.height > _LARGE
    orientation = _orientation(image)  # Before loading, which clears it in some formats.
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
