"""Archives into a sandbox, member by member, and compressed files. Standard library
only, but for zstd before it had that.

Invariant: an archive decides what is in its directory and nothing else: paths and links that lead out of it, devices
and FIFOs are refused; set-user-id and set-group-id bits, owners and capabilities are left out. Everything is placed by
`placing`, so that neither an earlier member nor the container can lead a later one astray.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from reconciler.runtime.fetcher import placing
from reconciler.runtime.fetcher.request import FetchError
from reconciler.runtime.fetcher.transfer import CHUNK

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
"""What the modules raise for a file that is not what its name says; ZstdError, a plain Exception, may not be there."""
_LONGEST_LINK = 4096
_BITS = 0o777
_ZIP_HEADER = 30  # bytes, at least, of what an archive says of each member

Tick = Callable[[int], None]


class Readable(Protocol):
    def read(self, amount: int, /) -> bytes: ...


class Unpacking:
    """At `target` in the sandbox: the directory of a tree, or the file. tick: told bytes as they are written."""

    def __init__(self, sandbox: int, target: str, tick: Tick) -> None:
        self._sandbox, self._target, self._tick = sandbox, target, tick

    def tar(self, file: BinaryIO) -> None:
        placing.directory(self._sandbox, self._target)
        with tarfile.open(fileobj=file, mode="r:*") as archive:
            for member in archive:
                self._tick(tarfile.BLOCKSIZE)
                self._member(archive, member)

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._path(member.name)
        if member.isdir():
            placing.directory(self._sandbox, path, member.mode)
        elif member.issym():
            self._link(path, member.linkname)
        elif member.islnk():
            placing.hard_link(self._sandbox, path, self._path(member.linkname))
        elif member.isfile():
            content = archive.extractfile(member)
            if content is not None:
                self._write(path, content, member.mode)
        else:
            raise FetchError(f"holds {member.name!r}, which is neither file, directory nor link")

    def zstd(self, file: BinaryIO) -> None:
        from reconciler.runtime.compression import zstd_file

        with zstd_file(file) as plain:
            self.tar(plain)

    def file(self, kind: str, file: BinaryIO) -> None:
        try:
            with _plain(kind, file) as plain:
                self._write(self._target, plain, 0o644)
        except OSError as error:
            if error.errno is not None:
                raise
            raise FetchError(f"cannot be unpacked: {error}") from error  # the modules' own have no number

    def zip(self, file: BinaryIO) -> None:
        placing.directory(self._sandbox, self._target)
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                self._tick(_ZIP_HEADER)
                self._entry(archive, member)

    def _entry(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        path, mode = self._path(member.filename), member.external_attr >> 16
        if member.is_dir():
            placing.directory(self._sandbox, path, mode or None)
            return
        with archive.open(member) as content:
            if stat.S_ISLNK(mode):
                self._link(path, content.read(_LONGEST_LINK).decode())
            else:
                self._write(path, content, mode or 0o644)

    def _path(self, name: str) -> str:
        if name.startswith("/"):
            raise FetchError(f"holds {name!r}, an absolute path")
        return posixpath.join(self._target, *placing.parts_of(name))

    def _link(self, path: str, target: str) -> None:
        inside = posixpath.relpath(posixpath.dirname(path) or ".", self._target or ".")
        led = posixpath.normpath(posixpath.join(inside, target))
        if target.startswith("/") or led == ".." or led.startswith("../"):
            raise FetchError(f"holds a link to {target!r}, which leads out of it")
        placing.link(self._sandbox, path, target)

    def _write(self, path: str, content: Readable, mode: int) -> None:
        with placing.replacing(self._sandbox, path, mode & _BITS) as file:
            while data := content.read(CHUNK):
                file.write(data)
                self._tick(len(data))


def _plain(kind: str, file: BinaryIO) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile | BinaryIO:
    match kind:
        case "gzip":
            return gzip.GzipFile(fileobj=file)
        case "bzip2":
            return bz2.BZ2File(file)
        case "xz":
            return lzma.LZMAFile(file)
    from reconciler.runtime.compression import zstd_file

    return zstd_file(file)


def unpack(kind: str, file: BinaryIO, sandbox: int, target: str, tick: Tick) -> None:
    """kind: as `spec.uris.archive` has it. Raises FetchError or OSError."""
    unpacking = Unpacking(sandbox, target, tick)
    file.seek(0)
    try:
        trees = {"tar": unpacking.tar, "zstd": unpacking.zstd, "zip": unpacking.zip}
        if (tree := trees.get(kind)) is not None:
            tree(file)
        else:
            unpacking.file(kind, file)
    except (FetchError, OSError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, _BROKEN) or type(error).__name__ == "ZstdError":
            raise FetchError(f"cannot be unpacked: {error}") from error
        raise
