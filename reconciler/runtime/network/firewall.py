"""Keeps our table of nftables as it is to be: written in one transaction, looked at, put back when somebody took it.

    hold(text) ─▶ nft -f - ─▶ (generation, listing) remembered ─▶ somebody changes rules ─▶ is the listing still that?
                                                                      no ─▶ nft -f -     yes ─▶ nothing

Written by the program nft, because the bytecode of rules is its business (masquerading and translation of addresses
alone would be hundreds of lines here) and it takes what `nft list` shows, so that a person can read what we apply;
pyroute2 has no expressions for it. What nft is not needed for is asked of the kernel: whether the table is there, and
whether anything has changed, which is a number.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass

from reconciler.errors import Retryable
from reconciler.runtime import programs
from reconciler.runtime.kernel.nftables import Changes, Nftables
from reconciler.runtime.network import table

log = logging.getLogger(__name__)

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_SECONDS = 10.0
_BURST = 0.05  # seconds in which changes of others come together
_TRIES = 3
_SAID = 400  # characters of a complaint that a message shows


@dataclass(frozen=True, slots=True)
class _Sight:
    """What there was when all was as it is to be: the kernel's count of changes, and the table as nft lists it; None as
    long as nobody has asked, which no launch waits for."""

    generation: int
    listing: str | None = None


def lacking() -> str | None:
    """Why no table can be written on this host; None when one can."""
    if shutil.which("nft", path=_PATH) is None:
        return "the program nft is missing, which writes the rules of networks: install the package nftables"
    try:
        with Nftables() as kernel:
            kernel.generation()
    except OSError as error:
        return f"this kernel has no nftables (nf_tables): {error.strerror}"
    return None


class Firewall:
    """One table, `reconciler_` and twelve digits of the owner. Safe in any thread."""

    def __init__(self, owner: str) -> None:
        self.name = f"reconciler_{owner[:12]}"
        self._comment = f"reconciler {owner}"
        self._wanted: str | None = None  # None: there is to be no such table
        self._seen: _Sight | None = None
        self._guard: threading.Thread | None = None
        self._lock = threading.Lock()

    def hold(self, segments: list[table.Segment], published: list[table.Publication]) -> None:
        """Have it say that, and see to it from now on; without networks there is none. Raises Retryable."""
        text = table.ruleset(self.name, self._comment, segments, published)
        with self._lock:
            if not segments:
                self._wanted = self._seen = None
                with Nftables() as kernel:
                    if kernel.has(self.name):
                        self._write(text)
                return
            if text != self._wanted:
                self._wanted, self._seen = text, None
            if self._guard is None:
                self._guard = threading.Thread(target=self._keep, name="nftables", daemon=True)
                self._guard.start()
            self._put_back()

    def mend(self) -> str | None:
        """Look whether it is as it is to be, and put it back if not; why that cannot be done."""
        with self._lock:
            try:
                if self._wanted is not None:
                    if self._put_back():
                        log.warning("table %s of nftables was changed by somebody else, and is put back", self.name)
                    self._learn()
            except (OSError, Retryable) as error:
                return f"table {self.name} of nftables cannot be put back: {error}"
        return None

    def _keep(self) -> None:
        """In a thread of its own, as long as there is a table: changes are told, so that nobody waits for a look."""
        try:
            with Changes() as changes:
                while self._needed():
                    time.sleep(_BURST)
                    if (why := self.mend()) is not None:
                        log.warning("%s", why)
                    changes.wait()
        except OSError as error:
            log.warning("changes of nftables are not told, so they are seen later: %s", error)
            with self._lock:
                self._guard = None

    def _needed(self) -> bool:
        with self._lock:
            if self._wanted is None:
                self._guard = None
            return self._wanted is not None

    def _put_back(self) -> bool:
        """Whether it was not as it is to be. Somebody may change it while it is written: then it is written again."""
        assert self._wanted is not None
        with Nftables() as kernel:
            if self._seen is not None:
                generation = kernel.generation()
                if generation == self._seen.generation:
                    return False
                if self._listing() == self._seen.listing:
                    self._seen = _Sight(generation, self._seen.listing)
                    return False
            known = self._seen is not None and self._seen.listing is not None
            for _ in range(_TRIES):
                before = kernel.generation()
                self._write(self._wanted if kernel.has(self.name) else table.made_anew(self._wanted))
                self._seen = _Sight(kernel.generation())
                if self._seen.generation == before + 1:
                    break
            return known

    def _learn(self) -> None:
        """How nft lists what was written, if it is still that."""
        if self._seen is not None and self._seen.listing is None:
            seen = _Sight(self._seen.generation, self._listing())
            with Nftables() as kernel:
                if kernel.generation() == seen.generation:
                    self._seen = seen

    def _listing(self) -> str:
        """Nothing, if it is not there."""
        done = self._nft(["list", "table", "inet", self.name], "")
        return done.stdout.decode(errors="replace") if done.returncode == 0 else ""

    def _write(self, text: str) -> None:
        done = self._nft(["-f", "-"], text)
        if done.returncode != 0:
            said = " ".join(done.stderr.decode(errors="replace").split())[:_SAID]
            raise Retryable(f"nft does not take the table {self.name}: {said or f'exit {done.returncode}'}")

    def _nft(self, arguments: list[str], told: str) -> subprocess.CompletedProcess[bytes]:
        program = shutil.which("nft", path=_PATH)
        if program is None:
            raise Retryable(f"{lacking()}")
        try:
            environment = {"PATH": _PATH, "LANG": "C"}
            return programs.converse([program, *arguments], told.encode(), _SECONDS, env=environment, cwd="/")
        except subprocess.TimeoutExpired:
            raise Retryable(f"nft took longer than {_SECONDS:.0f} s and was killed") from None
        except OSError as error:
            raise Retryable(f"nft could not be run: {error}") from None
