"""Where a git source is: `git+SCHEME://…#branch:path`. Pure.

Invariant: who a source is does not depend on its branch. Names are pruned and handed over within one repository
and path, whichever branch is followed; two paths of a repository are two sources.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler.errors import ReconcilerError

PREFIX = "git+"
SCHEMES = ("file", "ssh", "https")
_FORM = "git+file:///srv/specs.git#branch:path, git+ssh://… or git+https://…"
_BAD_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|[/.]$|\.lock$")
"""git-check-ref-format(1)."""


@dataclass(frozen=True, slots=True)
class GitAddress:
    """url: what git is given; branch: "" is the remote's HEAD; path: within the repository, "" is its root."""

    url: str
    branch: str = ""
    path: str = ""

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0]

    @property
    def identity(self) -> str:
        return f"{PREFIX}{self.url}" + (f"#:{self.path}" if self.path else "")

    @property
    def ref(self) -> str:
        """The remote's."""
        return f"refs/heads/{self.branch}" if self.branch else "HEAD"

    def __str__(self) -> str:
        where = self.branch + (f":{self.path}" if self.path else "")
        return f"{PREFIX}{self.url}" + (f"#{where}" if where else "")


def is_git(text: str) -> bool:
    """It is written as a URL of git's, well or badly."""
    return text.startswith(PREFIX)


def parse(text: str) -> GitAddress:
    """Raises ReconcilerError with the form that is expected."""
    url, _, where = text.removeprefix(PREFIX).partition("#")
    branch, _, path = where.partition(":")
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError as error:
        raise _refused(text, str(error)) from None
    if parts.scheme not in SCHEMES:
        raise _refused(text, f"a repository is read by {', '.join(SCHEMES)}, not by {parts.scheme or 'nothing'}")
    if password is not None:
        raise ReconcilerError(
            f"{PREFIX}{parts.scheme}://{parts.hostname}: a password in a URL would be shown to everyone who lists "
            "containers; leave it to a credential helper of git's, or to ~/.netrc"
        )
    if (parts.scheme == "file") == bool(parts.netloc) or not parts.path.strip("/"):
        raise _refused(text, "the path of a file URL is absolute; other URLs name a host and a path")
    if not url.isprintable() or " " in url:
        raise _refused(text, "it has blanks or control characters in it")
    if branch and _BAD_BRANCH.search(branch):
        raise _refused(text, f"{branch!r} is no name of a branch")
    labels = [label for label in path.split("/") if label not in ("", ".")]
    if ".." in labels or not path.isprintable():
        raise _refused(text, f"{path!r} must be a path inside the repository")
    return GitAddress(url, branch, "/".join(labels))


def _refused(text: str, why: str) -> ReconcilerError:
    return ReconcilerError(f"{text}: {why}; it should be {_FORM}")
