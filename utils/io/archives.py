"""Zip files from elsewhere (.pt and .npz are zips): nothing in one is believed unchecked.

A zip tells where its members lie, and how long they are, in more than one place. What is refused
here is what makes readers disagree or makes them take memory that the file does not account for:
members that overlap or have the same name, sizes that lie, text before or behind, too many members.
"""

import io
import os
import stat
import struct
import zipfile
from zipfile import BadZipFile

from utils.runtime.errors import UserError

END = struct.Struct("<4s4H2LH")  # of the central directory
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64 = struct.Struct("<4sLQL")
LOCAL = struct.Struct("<4s5H3L2H")  # before each member
ENTRY_BYTES = 46 + 512  # of the directory, for a member: its header, and a name longer than most
ENCRYPTED = 1
CHUNK = 2**20  # bytes
DAMAGED = (  # what zipfile meets damaged files with
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


def open_regular_file(path):
    """A binary stream of a file; UserError for a pipe, which would be waited for without end."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # open() tells of a directory
        raise UserError(f"{path} is no file but a device or a pipe: give a file")
    return open(path, "rb")


def open_checked_zip(stream, most_members, kinds=(zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)):
    """A ZipFile whose members lie one after the other in the file and are named once.

    kinds: of compression that are let in. Raises BadZipFile. That a member has its CRC is known
    once it was read to its end, as `read_member` does.
    """
    try:
        _check_directory(stream, most_members)
        archive = zipfile.ZipFile(stream)
        _check_members(stream, archive, most_members, kinds)
    except DAMAGED as error:
        raise BadZipFile(str(error)) from error
    return archive


def read_member(archive, member):
    """The bytes of a member (ZipInfo), of the length and CRC that it has in the directory."""
    try:
        with archive.open(member) as part:
            content = part.read(member.file_size)
            part.read(1)  # the CRC is compared at the end
    except DAMAGED as error:
        raise BadZipFile(str(error)) from error
    if len(content) != member.file_size:
        raise BadZipFile(f"{member.filename} is not as long as the file says")
    return content


def repack(archive):
    """Return the members of a checked zip as a new zip file in memory."""
    memory = io.BytesIO()
    clean = zipfile.ZipFile(memory, "w")
    try:
        for member in archive.infolist():
            clean.writestr(member.filename, read_member(archive, member))
        clean.close()
    except BaseException:
        clean.fp = None  # in the middle of a member it refuses to be closed, and hides the reason
        raise
    memory.seek(0)
    return memory


def _check_directory(stream, most_members):
    """Refuse a directory that is too long, before zipfile makes an object of each entry."""
    size = stream.seek(0, io.SEEK_END)
    if size < END.size:
        raise BadZipFile("it is too short for a zip file")
    stream.seek(size - END.size)
    end, *_, entries, length, start, comment = END.unpack(stream.read(END.size))
    if end != b"PK\5\6" or comment:
        raise BadZipFile("it does not end as a zip file does")
    behind = size - END.size
    if behind >= LOCATOR_64.size:
        stream.seek(behind - LOCATOR_64.size)
        locator, _, place, _ = LOCATOR_64.unpack(stream.read(LOCATOR_64.size))
        if locator == b"PK\6\7":
            behind -= LOCATOR_64.size + END_64.size
            if place != behind:
                raise BadZipFile("its directory is not where it says")
            stream.seek(place)
            _, _, _, _, _, _, _, entries, length, start = END_64.unpack(stream.read(END_64.size))
    if entries > most_members or length > most_members * ENTRY_BYTES:
        raise BadZipFile(f"it has more than {most_members:,} members")
    if start + length != behind:
        raise BadZipFile("its directory is not where it says")
    stream.seek(0)


def _check_members(stream, archive, most_members, kinds):
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    if not 0 < len(members) <= most_members:
        raise BadZipFile(f"it has {len(members):,} members")
    if len(set(archive.namelist())) < len(members):
        raise BadZipFile("two of its members have the same name")
    free_from = 0
    for member in members:
        name = member.filename
        if member.flag_bits & ENCRYPTED or member.compress_type not in kinds:
            raise BadZipFile(f"{name} is packed in a way that is not let in")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise BadZipFile(f"{name} is not as long as the file says")
        if member.header_offset < free_from or (free_from == 0 and member.header_offset):
            raise BadZipFile(f"{name} lies over another member, or something before the first")
        archive.open(member).close()  # compares the names before the member and in the directory
        stream.seek(member.header_offset)
        *_, name_bytes, extra_bytes = LOCAL.unpack(stream.read(LOCAL.size))
        begin = member.header_offset + LOCAL.size + name_bytes + extra_bytes
        free_from = begin + member.compress_size
        if free_from > archive.start_dir:
            raise BadZipFile(f"{name} reaches beyond the file")
