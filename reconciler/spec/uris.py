"""What a uri means: where it leads, what it is called in the sandbox, whether it is an archive. Pure, standard library
only: the fetcher's child imports it."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

_ARCHIVES = {
    "tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
    "zip": (".zip",),
    "zstd": (".tar.zst", ".tar.zstd", ".tzst"),
}
REMOTE = ("http", "https")
_HERE = ("", "localhost")


def is_remote(uri: str) -> bool:
    return urlsplit(uri).scheme.lower() in REMOTE


def local_path(uri: str) -> str:
    """Of a file uri or a path; a relative one begins at the spec file's directory."""
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme.lower() == "file" else uri


def base_name(uri: str) -> str:
    """Its last part; "" when it has none that can be a file's name."""
    path = unquote(urlsplit(uri).path) if is_remote(uri) else local_path(uri)
    name = path.rpartition("/")[2]
    return "" if name in (".", "..") or "\0" in name else name


def archive(uri: str) -> str | None:
    """ "tar", "zip", "zstd" (a tar in it), or None: by how its name ends."""
    name = base_name(uri).lower()
    return next((kind for kind, endings in _ARCHIVES.items() if name.endswith(endings)), None)


def violation(uri: str, *, named: bool) -> str:
    """Why it cannot be fetched, "" when it may be. named: a destination is given."""
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 - it is read when it is asked for
    except ValueError as error:
        return f"is no uri: {error}"
    scheme = parts.scheme.lower()
    if "://" in uri and scheme not in (*REMOTE, "file"):
        return f"has a scheme that cannot be fetched, {scheme}: there are http, https, file, and plain paths"
    if scheme == "file" and (parts.netloc not in _HERE or not parts.path.startswith("/")):
        return "must be file:///, followed by an absolute path of this host"
    if scheme in REMOTE and not parts.hostname:
        return "has no host"
    if scheme in REMOTE and "@" in parts.netloc:
        return "must not hold a user or a password, which everyone who may read the spec would see"
    if not base_name(uri) and not named:
        return "has no last part that could be the file's name; give a destination"
    return ""


def shown(uri: str) -> str:
    """For messages: without what may be secret in it, the query."""
    return uri.partition("?")[0]
