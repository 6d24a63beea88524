"""Unpacks what was fetched: within its directory, and within a budget of bytes. Standard library only."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from typing import IO

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_PACKED: dict[str, type[gzip.GzipFile] | type[bz2.BZ2File] | type[lzma.LZMAFile]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
ARCHIVES = (*_TARS, *_PACKED, ".zip")
"""The endings of names that are unpacked (``marathon-v2`` section 2, `fetch`)."""

_CHUNK = 1 << 16
_MOST_MEMBERS = 100_000


class Refused(Exception):
    """It cannot be had, now or later; the message says why."""


class TooMuch(Exception):
    """It is larger than may be fetched and unpacked in all."""


class Budget:
    """The bytes that may be fetched and unpacked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def take(self, count: int) -> None:
        """Use up some of it; raises TooMuch beyond it."""
        self.used += count
        if self.used > self.most:
            raise TooMuch(f"all files together, as fetched and unpacked, may be {self.most >> 20} MiB")


def unpack(archive: str, path: str, budget: Budget) -> None:
    """Unpack an archive into the directory of `path`, which is its name.

    Raises
    ------
    Refused
        It is damaged, or holds what would leave the directory.
    TooMuch
        It is larger than the budget.
    """
    directory = os.path.dirname(path)
    try:
        if path.endswith(_TARS):
            _untar(archive, directory, budget)
        elif path.endswith(".zip"):
            _unzip(archive, directory, budget)
        else:
            suffix = os.path.splitext(path)[1]
            with _PACKED[suffix](archive) as source:
                _write(source, path.removesuffix(suffix), budget)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise Refused(f"it cannot be unpacked: {error}") from error
    except (NotImplementedError, RuntimeError) as error:
        raise Refused(f"it cannot be unpacked: {error}") from error  # an encrypted zip, say


def _untar(archive: str, directory: str, budget: Budget) -> None:
    with tarfile.open(archive, "r:*") as tar:
        for count, member in enumerate(tar, 1):
            _count(count)
            budget.take(member.size)
            # Python's own checks: no absolute or climbing paths or links, no devices, no odd modes.
            tar.extract(member, directory, filter="data")


def _unzip(archive: str, directory: str, budget: Budget) -> None:
    with zipfile.ZipFile(archive) as packed:
        for count, member in enumerate(packed.infolist(), 1):
            _count(count)
            mode = member.external_attr >> 16
            place = os.path.realpath(os.path.join(directory, member.filename))
            if os.path.commonpath([directory, place]) != directory:
                raise Refused(f"it holds {member.filename!r}, which lies outside of where it is unpacked")
            if stat.S_ISLNK(mode):
                raise Refused(f"it holds the link {member.filename!r}, and links in zip files are not made")
            if member.is_dir():
                os.makedirs(place, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with packed.open(member) as source:
                _write(source, place, budget)
            if mode & stat.S_IXUSR:
                os.chmod(place, 0o700)


def _write(source: IO[bytes] | io.BufferedIOBase, place: str, budget: Budget) -> None:
    with open(place, "wb") as target:
        while chunk := source.read(_CHUNK):
            budget.take(len(chunk))
            target.write(chunk)


def _count(count: int) -> None:
    if count > _MOST_MEMBERS:
        raise Refused(f"it holds more than {_MOST_MEMBERS} files")
