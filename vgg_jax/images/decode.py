"""Image files to RGB arrays: whatever the file holds, training and evaluation see the same pixels."""

import io
import warnings

import numpy as np
from PIL import ExifTags, Image

from vgg_jax.errors import InputError

MAX_PIXELS = 2**27  # Larger headers are decompression bombs: 384 MiB of RGB.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # By content, never by file name.
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
    the upper 8; the EXIF rotation is applied.  Raises InputError naming `name` where the file is empty, truncated, not
    an image, or larger than MAX_PIXELS by its header.
    """
    image = _open(data, name)
    orientation = _orientation(image)  # Before loading, which clears it in some formats.
    try:
        image.load()
    except Exception as error:  # PIL's readers raise OSError, SyntaxError, struct.error, zlib.error, IndexError, ...
        raise InputError(f"{name}: cannot be decoded ({error}); mend the file") from error
    upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    return _rgb(upright, name)


def _open(data: bytes, name: str) -> Image.Image:
    if not data:
        raise InputError(f"{name}: is empty (0 bytes), expected an image; mend the file")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{name}: announces too many pixels, at most {MAX_PIXELS} are accepted ({error}); make it smaller"
        ) from error
    except Exception as error:
        raise InputError(
            f"{name}: is not a readable image ({len(data)} bytes starting with {data[:8]!r}), "
            f"expected one of {', '.join(_FORMATS)}; mend the file"
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"{name}: announces {image.height} x {image.width} pixels, at most {MAX_PIXELS} are accepted; "
            "make the image smaller"
        )
    return image


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


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise InputError(f"{name}: has 32-bit pixels (mode {image.mode}), expected 8 or 16 bits a channel; convert it")
    image.info.pop("transparency", None)
    try:
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise InputError(f"{name}: mode {image.mode} cannot be converted to RGB ({error}); convert it") from error
