"""A repository with a working tree and a bare one beside it that is pushed to, by the real git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ENVIRONMENT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}


class Upstream:
    """`tree` is where files are edited, `bare` is what others fetch from."""

    def __init__(self, base: Path) -> None:
        self.tree, self.bare = base / "tree", base / "specs.git"
        for path, bare in ((self.tree, []), (self.bare, ["--bare"])):
            subprocess.run(["git", "init", "-q", "-b", "main", *bare, str(path)], check=True, env=self._environ())
        self("config", "user.name", "Ann")
        self("config", "user.email", "ann@example.org")
        self("remote", "add", "origin", str(self.bare))

    @property
    def url(self) -> str:
        return f"git+file://{self.bare}"

    def __call__(self, *arguments: str) -> str:
        argv = ["git", "-C", str(self.tree), *arguments]
        return subprocess.run(argv, check=True, env=self._environ(), capture_output=True, text=True).stdout.strip()

    def write(self, file: str, text: str) -> Path:
        path = self.tree / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def push(self, subject: str, *options: str) -> str:
        """All of the tree as a commit, pushed; its id."""
        self("add", "-A")
        self("commit", "-q", "-m", subject, *options)
        self("push", "-q", "--force", "origin", "HEAD")
        return self("rev-parse", "HEAD")

    def sign(self, subject: str, home: Path, key: str) -> str:
        """As `push`, with a signature by GnuPG."""
        settings = ("-c", "gpg.format=openpgp", "-c", f"user.signingKey={key}")
        self("add", "-A")
        argv = ["git", "-C", str(self.tree), *settings, "commit", "-q", "-S", "--allow-empty", "-m", subject]
        subprocess.run(argv, check=True, env={**self._environ(), "GNUPGHOME": str(home)}, capture_output=True)
        stop_agent(home)
        self("push", "-q", "--force", "origin", "HEAD")
        return self("rev-parse", "HEAD")

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return {**kept, **ENVIRONMENT}


def ssh_key(path: Path, principal: str) -> tuple[Path, str]:
    """The private key's file, and the line of an allowed signers file that is about it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    public = path.with_suffix(".pub").read_text().split()
    return path, f"{principal} {public[0]} {public[1]}\n"


def gpg_home(path: Path, user: str) -> tuple[Path, str]:
    """A home of GnuPG with one key, and that key's user id."""
    path.mkdir(mode=0o700)
    made = ["gpg", "--batch", "--quiet", "--homedir", str(path), "--passphrase", "", "--quick-generate-key", user]
    subprocess.run([*made, "ed25519", "sign", "never"], check=True, capture_output=True)
    stop_agent(path)
    return path, user


def stop_agent(home: Path) -> None:
    """The one that gpg leaves behind."""
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True, capture_output=True)
