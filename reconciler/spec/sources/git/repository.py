"""The bare repository that a git source keeps, and what is read out of its commits.

    ROOT/sources/<hash of the identity>/       refs/reconciler/next       fetched last, whatever it is worth
                                               refs/reconciler/<ref>      last good commit of that ref

Invariants: only one commit is ever fetched, without its history; commits are read object by object, never checked
out; what is not of use any more is collected. Two processes never use it at once: the agent's lock sees to that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from reconciler.spec.sources.git.address import GitAddress
from reconciler.spec.sources.git.command import Git, GitFailed
from reconciler.spec.sources.git.contents import Blob
from reconciler.spec.sources.listing import Commit

FETCH_SECONDS = 120.0
_NEXT = "refs/reconciler/next"
_SHOWN = 200
_GC = ("gc.auto=500", "gc.autoPackLimit=20", "gc.pruneExpire=now", "gc.reflogExpire=now")


class NoSuchBranch(GitFailed):
    """The remote answers, and has no such branch."""


class Repository:
    """In `directory`, which is made when it is needed. All of it raises GitFailed."""

    def __init__(self, directory: Path, address: GitAddress) -> None:
        self._directory = directory
        self._address = address
        self._git = Git(directory, address.scheme)
        self._good = f"refs/reconciler/good/{hashlib.sha256(address.ref.encode()).hexdigest()[:16]}"
        self.stop = self._git.stop

    def damaged(self) -> bool:
        """Something is there, and git makes nothing of it."""
        if not self._directory.is_dir():
            return False
        try:
            self._git.run("rev-parse", "--is-bare-repository")
            self._git.run("fsck", "--connectivity-only", "--no-dangling")
        except GitFailed:
            return True
        return False

    def good(self) -> str | None:
        """The last commit that was kept; None when there is none, or nothing that could be read."""
        if not self._directory.is_dir():
            return None
        with contextlib.suppress(GitFailed):
            return self._resolve(self._good)
        return None

    def tip(self) -> str:
        """The commit that the remote's branch is at now. Changes nothing."""
        for line in self._git.run("ls-remote", "--quiet", self._address.url, self._address.ref).decode().splitlines():
            id, _, ref = line.partition("\t")
            if ref == self._address.ref:
                return id
        what = f"branch {self._address.branch}" if self._address.branch else "commit yet"
        raise NoSuchBranch(f"{self._address.url} has no {what}")

    def fetch(self) -> str:
        """What the branch is at, which may be newer than `tip`."""
        self._prepare()
        options = ("--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
        wanted = f"+{self._address.ref}:{_NEXT}"
        self._git.run("fetch", *options, self._address.url, wanted, seconds=FETCH_SECONDS)
        return self._resolve(_NEXT)

    def keep(self, commit: str) -> None:
        """It is good; what only earlier ones had may go."""
        self._git.run("update-ref", self._good, commit)
        with contextlib.suppress(GitFailed):
            self._git.run("gc", "--auto", "--quiet", seconds=FETCH_SECONDS, settings=(*_GC, "gc.autoDetach=false"))

    def verify(self, commit: str, signers: Path) -> None:
        """signers: a file of allowed signers (ssh-keygen(1)), or a directory that is GnuPG's home. The other kind of
        signature counts as none. Raises GitFailed with why it is not signed as it must be."""
        home = signers.is_dir()
        settings = (
            f"gpg.ssh.allowedSignersFile={os.devnull if home else signers}",
            f"gpg.program={'gpg' if home else 'false'}",
        )
        self._git.run("verify-commit", commit, settings=settings, environ={"GNUPGHOME": str(signers)} if home else {})

    def describe(self, commit: str) -> Commit:
        form = "%H%x00%an%x00%ct%x00%s"
        said = self._git.run("log", "-1", "--no-show-signature", "--no-mailmap", f"--format={form}", commit)
        id, author, seconds, subject = said.decode(errors="replace").rstrip("\n").split("\0", 3)
        return Commit(str(self._address), id, author[:_SHOWN], subject[:_SHOWN], float(seconds))

    def tree(self, commit: str) -> dict[str, Blob]:
        """Path → entry, of the whole repository; bytes that are not UTF-8 are surrogates, as in file names."""
        found = {}
        for line in self._git.run("ls-tree", "-r", "-z", "-l", "--full-tree", commit).split(b"\0"):
            about, tab, path = line.partition(b"\t")
            if tab:
                mode, _, id, size = about.decode().split()
                found[path.decode(errors="surrogateescape")] = Blob(mode, id, int(size) if size.isdigit() else 0)
        return found

    def read(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Object id → content."""
        if not ids:
            return {}
        said = self._git.run("cat-file", "--batch", stdin="".join(f"{id}\n" for id in ids).encode())
        found, at = {}, 0
        while at < len(said):
            end = said.index(b"\n", at)
            id, kind, *rest = said[at:end].decode().split()
            if kind != "blob":
                raise GitFailed(f"object {id} is {kind}")
            at = end + 1 + int(rest[0])
            found[id] = said[end + 1 : at]
            at += 1
        return found

    def forget(self) -> None:
        """What is there cannot be read: begin anew."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _prepare(self) -> None:
        """There is a repository, and none of the locks and half files that a git which was killed leaves."""
        if not (self._directory / "HEAD").is_file():
            self.forget()
            self._directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._git.run("init", "--quiet", "--bare", "--template=", str(self._directory))
        for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/??/tmp_*"):
            for left in self._directory.glob(pattern):
                left.unlink(missing_ok=True)

    def _resolve(self, ref: str) -> str:
        return (
            self._git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").decode().strip()
        )
