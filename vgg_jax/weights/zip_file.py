"""Zip archives from outside: their members' declared sizes are checked before any is read."""

import zipfile
from pathlib import Path

from vgg_jax.weights.found import Malformed, check_size

MAX_MEMBERS = 4096
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile inflates bzip2 and LZMA without a limit


def open_members(path: Path) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """The archive and its members by name; Malformed for a bomb, a name that comes twice, encryption, bzip2."""
    archive = zipfile.ZipFile(path)
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise Malformed(f"it has {len(members)} members, but at most {MAX_MEMBERS} are read")
    check_size(sum(member.file_size for member in members), path.stat().st_size)
    by_name = {member.filename: member for member in members}
    if len(by_name) < len(members):
        raise Malformed("it has two members of one name")
    if any(member.flag_bits & 1 for member in members):
        raise Malformed("it is encrypted")
    if any(member.compress_type not in _BOUNDED for member in members):
        raise Malformed("its members are compressed neither as NumPy nor as torch does it, stored or deflated")
    return archive, by_name


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """All of a member, of the size that it declares: no more is decompressed; its CRC is checked."""
    with archive.open(member) as stream:
        data = stream.read(member.file_size)
        rest = stream.read(1)  # at the end the CRC is compared
    if rest or len(data) != member.file_size:
        raise Malformed(f"its member {member.filename} has not the {member.file_size} bytes that it declares")
    return data
