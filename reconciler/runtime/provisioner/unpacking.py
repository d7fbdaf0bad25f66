"""A layer's archive becomes a directory that overlayfs takes as a lower layer.

    .wh.NAME        a character device 0:0 named NAME       .wh..wh..opq   trusted.overlay.opaque on its directory

Invariants: nothing outside of the layer's directory is made, changed or removed, whatever names and links the archive
has: each entry's directory is resolved inside it, and the entry itself made there by descriptor, never through a link
of its own name; what does not match its digests is never used; sizes, counts and memory are bounded. Owners and
modes are kept, set-user-id bits too, and of the attributes user.* and security.capability. Device nodes are left out:
a container has a /dev of its own. Follows OCI image-spec layer.md and the kernel's overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from reconciler.runtime.compression import Decompressor
from reconciler.runtime.kernel import removal, rootpaths
from reconciler.runtime.provisioner.archives import Layer
from reconciler.runtime.provisioner.manifests import BadImage

OPAQUE = "trusted.overlay.opaque"

_LARGEST = 64 << 30  # bytes of a layer, unpacked
_MOST = 1_000_000  # entries of a layer
_HEADERS = 8 << 20  # bytes of one entry's headers
_LONGEST = 4096  # of a path, PATH_MAX
_CHUNK = 1 << 18
_RAW = 1 << 14  # read at a time: compressed, it may hold a thousand times as much
_WHITEOUT, _AUFS, _OPAQUE_NAME = ".wh.", ".wh..wh.", ".wh..wh..opq"
_XATTR = "SCHILY.xattr."

Check = Callable[[], None]
"""Called often; raises when the work is to be given up."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """size: bytes of its files."""

    size: int
    entries: int


def unpack(file: IO[bytes], layer: Layer, directory: str, check: Check) -> Unpacked:
    """Into an empty directory, which is the caller's to throw away when this fails. Raises BadImage, OSError."""
    stream = Stream(file, layer, check)
    try:
        with rootpaths.opened(directory) as root:
            writer = _Writer(root, stream, check, layer.diff_id)
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=_CHUNK) as tar:
                writer.take_all(tar)
            stream.finish()
            writer.finish()
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise BadImage(f"layer {layer.diff_id} cannot be unpacked: {error}") from error
    return Unpacked(writer.size, writer.entries)


class Stream:
    """The uncompressed archive, as it is read: hashed before and after, and bounded."""

    def __init__(self, file: IO[bytes], layer: Layer, check: Check) -> None:
        self._file, self._layer, self._check = file, layer, check
        self._kept, self._plain = hashlib.sha256(), hashlib.sha256()
        self._kept_size = self._size = 0
        self._decompressor: Decompressor | None = None
        self._ready = bytearray()
        self._over = False
        self.allowed = _HEADERS

    def read(self, count: int = _CHUNK) -> bytes:
        while len(self._ready) < count and not self._over:
            self._more()
        data = bytes(self._ready[:count])
        del self._ready[:count]
        self.allowed -= len(data)
        if self.allowed < 0:
            raise BadImage(f"layer {self._layer.diff_id}: the headers of an entry are larger than {_HEADERS} bytes")
        return data

    def pieces(self) -> Iterator[bytes]:
        """All of it, to its end."""
        while not self._over:
            self._more()
            yield bytes(self._ready)
            self._ready.clear()

    def _more(self) -> None:
        self._check()
        raw = b""
        if self._decompressor is None or self._decompressor.hungry:
            raw = self._file.read(_RAW)
            self._kept.update(raw)
            self._kept_size += len(raw)
            if self._decompressor is None:
                self._decompressor = Decompressor(raw)
            if not raw:
                if not self._decompressor.whole:
                    raise BadImage(f"layer {self._layer.diff_id} ends too early")
                self._over = True
        self._take(self._decompressor.piece(raw, _CHUNK))

    def _take(self, data: bytes) -> None:
        self._plain.update(data)
        self._size += len(data)
        if self._size > _LARGEST + _MOST * 1024:
            raise BadImage(f"layer {self._layer.diff_id} is larger than {_LARGEST >> 30} GiB")
        self._ready += data

    def finish(self) -> None:
        """Read what comes after the archive's end, and compare the digests."""
        while not self._over:
            self._more()
            self._ready.clear()
        blob = self._layer.blob
        if blob is not None and (f"sha256:{self._kept.hexdigest()}", self._kept_size) != (blob.digest, blob.size):
            raise BadImage(f"layer {blob.digest} has another content: sha256:{self._kept.hexdigest()}")
        if (found := f"sha256:{self._plain.hexdigest()}") != self._layer.diff_id:
            raise BadImage(f"layer {self._layer.diff_id} has another content once unpacked: {found}")


class _Writer:
    def __init__(self, root: int, stream: Stream, check: Check, layer: str) -> None:
        self._root, self._stream, self._check, self._layer = root, stream, check, layer
        self._times: list[tuple[str, float]] = []
        self.size = self.entries = 0

    def take_all(self, tar: tarfile.TarFile) -> None:
        while True:
            self._check()
            self._stream.allowed = _HEADERS
            member = tar.next()
            if member is None:
                return
            tar.members = []  # type: ignore[attr-defined] # else every one is kept in memory
            self.entries += 1
            if self.entries > _MOST:
                raise BadImage(f"it has more than {_MOST} entries")
            try:
                self._take(tar, member)
            except OSError as error:
                if error.errno is None:
                    raise
                why = os.strerror(error.errno)
                raise OSError(f"{member.name} of layer {self._layer} cannot be written: {why}") from error

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            if member.isdir():
                self._dress_directory(self._root, member, "/")
            return
        name = parts[-1]
        parent = rootpaths.directory(self._root, "/".join(parts[:-1]) or ".")
        try:
            if name == _OPAQUE_NAME:
                _make_opaque(parent)
            elif name.startswith(_AUFS):
                return
            elif name.startswith(_WHITEOUT):
                _whiteout(parent, name.removeprefix(_WHITEOUT), member.name)
            elif member.isdir():
                self._directory(parent, name, member)
            else:
                self._other(tar, parent, name, member)
        finally:
            os.close(parent)

    def _directory(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        before = _kind(parent, name)
        hidden = before is not None and _is_whiteout(parent, name)
        if before is None or not stat.S_ISDIR(before):
            removal.remove_at(parent, name)
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if hidden:  # taken away and made anew: nothing of the lower one shows
                _make_opaque(fd)
            self._dress_directory(fd, member, "/".join(_parts(member.name)))
        finally:
            os.close(fd)

    def _dress_directory(self, fd: int, member: tarfile.TarInfo, path: str) -> None:
        place = f"/proc/self/fd/{fd}"  # a descriptor of our own: the root's is no more than a path
        os.chown(place, member.uid, member.gid)
        Path(place).chmod(stat.S_IMODE(member.mode))
        _set_attributes(place, member)
        self._times.append((path, member.mtime))

    def _other(self, tar: tarfile.TarFile, parent: int, name: str, member: tarfile.TarInfo) -> None:
        if member.ischr() or member.isblk():
            return
        removal.remove_at(parent, name)  # an earlier entry: a later one takes its place, as when unpacked by hand
        if member.isreg():
            self._file(tar, parent, name, member)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
            os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            self._link(parent, name, member)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
            os.chmod(name, stat.S_IMODE(member.mode), dir_fd=parent)
        else:
            raise BadImage(f"{member.name}: an entry of type {member.type!r} is not supported")

    def _file(self, tar: tarfile.TarFile, parent: int, name: str, member: tarfile.TarInfo) -> None:
        if member.size < 0:  # it would make room for others
            raise BadImage(f"{member.name} has a size of {member.size} bytes")
        self.size += member.size
        if self.size > _LARGEST:
            raise BadImage(f"it is larger than {_LARGEST >> 30} GiB")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            self._stream.allowed = member.size + _HEADERS
            content = tar.extractfile(member)
            if content is None:
                raise BadImage(f"{member.name} has no content")
            sparse = bool(member.issparse())
            while data := content.read(_CHUNK):
                self._check()
                if sparse and not data.strip(b"\0"):
                    os.lseek(fd, len(data), os.SEEK_CUR)
                else:
                    _write(fd, data)
            os.ftruncate(fd, member.size)
            os.fchown(fd, member.uid, member.gid)
            os.fchmod(fd, stat.S_IMODE(member.mode))  # after the owner, whose change takes set-user-id away
            _set_attributes(fd, member)
            os.utime(fd, (member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        target = _parts(member.linkname)
        if not target:
            raise BadImage(f"{member.name} is a hard link to {member.linkname!r}")
        try:
            source = rootpaths.open_inside(self._root, "/".join(target[:-1]) or ".", os.O_PATH | os.O_DIRECTORY)
            try:
                os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        except OSError as error:
            raise BadImage(f"{member.name} is a hard link to {member.linkname}: {error.strerror}") from error

    def finish(self) -> None:
        """The times of directories, which everything that was made in them has changed."""
        for path, when in self._times:
            with contextlib.suppress(OSError):  # it became something else later
                fd = rootpaths.open_inside(self._root, path, os.O_PATH | os.O_DIRECTORY, links=False)
                try:
                    os.utime(f"/proc/self/fd/{fd}", (when, when))
                finally:
                    os.close(fd)


def _parts(name: str) -> list[str]:
    if len(os.fsencode(name)) > _LONGEST:
        raise BadImage(f"the path of an entry is longer than {_LONGEST} bytes")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadImage(f"{name!r} leads out of it")
    return parts


def _kind(parent: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def _is_whiteout(parent: int, name: str) -> bool:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _whiteout(parent: int, name: str, entry: str) -> None:
    if name in ("", ".", ".."):
        raise BadImage(f"{entry!r} hides what is not in it")
    found = _kind(parent, name)
    if found is None:
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
    elif stat.S_ISDIR(found):  # of this layer, which stays: only what lies below is hidden
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            _make_opaque(fd)
        finally:
            os.close(fd)


def _make_opaque(directory: int) -> None:
    os.setxattr(f"/proc/self/fd/{directory}", OPAQUE, b"y")


def _set_attributes(place: str | int, member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_XATTR)
        if name != key and (name.startswith("user.") or name == "security.capability"):
            os.setxattr(place, name, os.fsencode(value))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
