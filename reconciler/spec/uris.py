"""What a uri means: where it leads, what it is called in the sandbox, whether it is an archive. Pure, standard library
only: the fetcher's child imports it."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_TREES = {
    "tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
    "zip": (".zip",),
    "zstd": (".tar.zst", ".tar.zstd", ".tzst"),
}
_FILES = {"gzip": ".gz", "bzip2": ".bz2", "xz": ".xz", "zst": ".zst"}
REMOTE = ("http", "https")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HERE = ("", "localhost")


def is_remote(uri: str) -> bool:
    return urlsplit(uri).scheme.lower() in REMOTE


def foreign(uri: str) -> str | None:
    """Its scheme, when that is neither http, https nor file: one that fsspec may know. A path has none."""
    scheme = urlsplit(uri).scheme.lower()
    return scheme if "://" in uri and scheme not in (*REMOTE, "file", "") else None


def local_path(uri: str) -> str:
    """Of a file uri or a path; a relative one begins at the spec file's directory."""
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme.lower() == "file" else uri


def is_path(uri: str) -> bool:
    """Of a file of this host, as a file uri too."""
    return not is_remote(uri) and foreign(uri) is None


def base_name(uri: str) -> str:
    """Its last part; "" when it has none that can be a file's name."""
    path = local_path(uri) if is_path(uri) else unquote(urlsplit(uri).path)
    name = path.rpartition("/")[2]
    return "" if name in (".", "..") or "\0" in name else name


def archive(uri: str) -> str | None:
    """By how its name ends: a tree that is "tar", "zip" or "zstd" (a tar in it), a file that is "gzip", "bzip2", "xz"
    or "zst"; None for what is to be left as it is."""
    name = base_name(uri).lower()
    trees = (kind for kind, endings in _TREES.items() if name.endswith(endings))
    files = (kind for kind, ending in _FILES.items() if name.endswith(ending) and name != ending)
    return next(trees, None) or next(files, None)


def place(uri: str, kind: str | None) -> str:
    """Where it belongs in the sandbox if nobody says otherwise: "" for a tree, which is unpacked at the top."""
    name = base_name(uri)
    return "" if kind in _TREES else name[: len(name) - len(_FILES[kind] if kind else "")]


def violation(uri: str, *, named: bool) -> str:
    """Why it cannot be fetched, "" when it may be. named: a destination is given."""
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 - it is read when it is asked for
    except ValueError as error:
        return f"is no uri: {error}"
    scheme = parts.scheme.lower()
    if "://" in uri and not _SCHEME.fullmatch(scheme):
        return "has no scheme before its ://; there are http, https, file, those of fsspec, and plain paths"
    if scheme == "file" and (parts.netloc not in _HERE or not parts.path.startswith("/")):
        return "must be file:///, followed by an absolute path of this host"
    if scheme in REMOTE and not parts.hostname:
        return "has no host"
    if parts.password is not None or (scheme in REMOTE and parts.username is not None):
        return "must not hold a user or a password, which everyone who may read the spec would see"
    if not base_name(uri) and not named:
        return "has no last part that could be the file's name; give a destination"
    return ""


def shown(uri: str) -> str:
    """For messages: without what may be secret in it, the query."""
    return uri.partition("?")[0]
