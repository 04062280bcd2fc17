"""Fetching a file from an address, when asked to and never otherwise."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from vgg_jax.errors import InputError
from vgg_jax.progress import progress_bar
from vgg_jax.weights.whole_file import whole_file

PIECE = 2**20  # bytes
TIMEOUT = 60.0  # seconds without a byte
_UNREACHABLE = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


def fetch(address: str, path: Path, sha256: str | None = None) -> str:
    """Fetch http://, https:// or file:// to a file, with a progress bar, and return its SHA-256.

    sha256: of the file, or its first digits. Raises InputError where the address cannot be reached, what comes is cut
    off or has another SHA-256, or the file cannot be written; an existing file is replaced only by a whole right one.
    """
    digest = hashlib.sha256()
    with whole_file(path) as temporary, temporary.open("wb") as file:
        try:
            request = urllib.request.Request(address, headers={"User-Agent": "vgg_jax"})
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                announced = int(response.headers.get("Content-Length") or 0)
                with progress_bar(total=announced or None, unit="B", unit_scale=True, desc=path.name) as bar:
                    while piece := response.read(PIECE):
                        digest.update(piece)
                        file.write(piece)
                        bar.update(len(piece))
        except (*_UNREACHABLE, ValueError) as reason:  # ValueError: no address, or no length
            raise InputError(f"{address} cannot be fetched: {reason}") from reason
        if announced and file.tell() != announced:
            raise InputError(f"{address} was cut off: {file.tell()} of {announced} bytes came; fetch it again")
        if sha256 and not digest.hexdigest().startswith(sha256):
            raise InputError(
                f"{address} is not the file that was published: its SHA-256 is {digest.hexdigest()}, not {sha256}"
            )
    return digest.hexdigest()
