"""Check zip files from untrusted sources (.pt and .npz files are zips) before reading them.

A zip states positions and sizes of its members in more than one place. This module refuses what
makes readers disagree or allocate more memory than the file accounts for: overlapping members,
duplicate names, wrong sizes, data before the first or after the last member, too many members.
zipfile, which does the reading, checks none of these.
"""

import io
import os
import stat
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

from utils.runtime.errors import UserError

END = struct.Struct("<4s4H2LH")  # end of the central directory
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64 = struct.Struct("<4sLQL")
LOCAL = struct.Struct("<4s5H3L2H")  # header of a member
ENTRY_BYTES = 46 + 512  # of a directory entry: the header and a long name
ENCRYPTED = 1
CHUNK_SIZE = 2**20  # bytes
DAMAGE_ERRORS = (  # raised by zipfile for damaged files
    BadZipFile,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    ValueError,
    struct.error,
    zipfile.zlib.error,
)


def open_regular_file(path: str | Path) -> BinaryIO:
    """Open a file for reading bytes. Raises UserError for a pipe, which could block forever."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # for a directory, open() raises
        raise UserError(f"{path} is a device or a pipe, not a file: give a file")
    return open(path, "rb")


def open_checked_zip(
    stream: BinaryIO,
    max_members: int,
    compressions: Collection[int] = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
) -> zipfile.ZipFile:
    """Return a ZipFile whose members do not overlap and have unique names.

    compressions: allowed compression types. Raises BadZipFile. The CRC of a member is checked only
    when it is read to its end, as `read_member` does.
    """
    try:
        _check_directory(stream, max_members)
        archive = zipfile.ZipFile(stream)
        _check_members(stream, archive, max_members, compressions)
    except DAMAGE_ERRORS as error:
        raise BadZipFile(str(error)) from error
    return archive


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a member. Raises BadZipFile if its length or CRC is wrong."""
    try:
        with archive.open(member) as part:
            content = part.read(member.file_size)
            part.read(1)  # at the end, zipfile compares the CRC
    except DAMAGE_ERRORS as error:
        raise BadZipFile(str(error)) from error
    if len(content) != member.file_size:
        raise BadZipFile(f"{member.filename} has not the length that the file states")
    return content


def repack(archive: zipfile.ZipFile) -> io.BytesIO:
    """Return the members of a checked zip as a new zip file in memory."""
    memory = io.BytesIO()
    clean = zipfile.ZipFile(memory, "w")
    try:
        for member in archive.infolist():
            clean.writestr(member.filename, read_member(archive, member))
        clean.close()
    except BaseException:
        clean.fp = None  # closing it within a member would raise and hide the reason
        raise
    memory.seek(0)
    return memory


def _check_directory(stream, max_members):
    """Refuse a directory that is too long before zipfile creates an object for each entry."""
    size = stream.seek(0, io.SEEK_END)
    if size < END.size:
        raise BadZipFile("it is too short for a zip file")
    stream.seek(size - END.size)
    end, *_, entries, length, start, comment = END.unpack(stream.read(END.size))
    if end != b"PK\5\6" or comment:
        raise BadZipFile("it does not end like a zip file")
    directory_end = size - END.size
    if directory_end >= LOCATOR_64.size:
        stream.seek(directory_end - LOCATOR_64.size)
        locator, _, offset, _ = LOCATOR_64.unpack(stream.read(LOCATOR_64.size))
        if locator == b"PK\6\7":
            directory_end -= LOCATOR_64.size + END_64.size
            if offset != directory_end:
                raise BadZipFile("its directory has the wrong position")
            stream.seek(offset)
            _, _, _, _, _, _, _, entries, length, start = END_64.unpack(stream.read(END_64.size))
    if entries > max_members or length > max_members * ENTRY_BYTES:
        raise BadZipFile(f"it has more than {max_members:,} members")
    if start + length != directory_end:
        raise BadZipFile("its directory has the wrong position")
    stream.seek(0)


def _check_members(stream, archive, max_members, compressions):
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    if not 0 < len(members) <= max_members:
        raise BadZipFile(f"it has {len(members):,} members")
    if len(set(archive.namelist())) < len(members):
        raise BadZipFile("two of its members have the same name")
    previous_end = 0
    for member in members:
        name = member.filename
        if member.flag_bits & ENCRYPTED or member.compress_type not in compressions:
            raise BadZipFile(f"{name} is encrypted or has a compression that is not allowed")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise BadZipFile(f"{name} has not the length that the file states")
        if member.header_offset < previous_end or (previous_end == 0 and member.header_offset):
            raise BadZipFile(f"{name} overlaps another member, or data precede the first member")
        archive.open(member).close()  # compares the names in the header and in the directory
        stream.seek(member.header_offset)
        *_, name_bytes, extra_bytes = LOCAL.unpack(stream.read(LOCAL.size))
        begin = member.header_offset + LOCAL.size + name_bytes + extra_bytes
        previous_end = begin + member.compress_size
        if previous_end > archive.start_dir:
            raise BadZipFile(f"{name} extends beyond the end of the file")
