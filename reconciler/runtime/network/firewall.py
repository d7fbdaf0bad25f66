"""Keeps our table of nftables as it is to be: written in one transaction, looked at, put back when somebody took it.

    hold(text) ─▶ written ─▶ (generation, contents) remembered ─▶ somebody changes rules ─▶ still those contents?
                                                                      no ─▶ written    yes ─▶ nothing

Written by libnftables, because the bytecode of rules is its business (masquerading and translation of addresses
alone would be hundreds of lines here) and it takes what `nft list` shows, so that a person can read what we apply;
pyroute2 has no expressions for it. The rest is asked of the kernel: what there is, and whether anything has changed,
which is a number.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from reconciler.errors import Retryable
from reconciler.runtime.kernel import libnftables
from reconciler.runtime.kernel.libnftables import Nft
from reconciler.runtime.kernel.nftables import Changes, Nftables
from reconciler.runtime.network import table

log = logging.getLogger(__name__)

_BURST = 0.05  # seconds in which changes of others come together
_TRIES = 3
_AGAIN = 1.0  # seconds after which what could not be put back is tried again
_TOLD = 120.0  # seconds in which it is told that somebody changed it: several looks at each container
_SAID = 400  # characters of a complaint that a message shows


@dataclass(frozen=True, slots=True)
class _Sight:
    """What there was when all was as it is to be: the kernel's count of changes, and a digest of the table."""

    generation: int
    contents: bytes | None


def lacking() -> str | None:
    """Why no table can be written on this host; None when one can."""
    if (why := libnftables.lacking()) is not None:
        return f"libnftables is missing, which writes the rules of networks: install the package nftables ({why})"
    try:
        with Nftables() as kernel:
            kernel.generation()
    except OSError as error:
        return f"this kernel has no nftables (nf_tables): {error.strerror}"
    return None


class _Hand:
    """What is asked and told of this network namespace, kept as long as there is a table: to let go of it takes the
    kernel milliseconds."""

    def __init__(self) -> None:
        self.kernel = Nftables()
        self._nft: Nft | None = None

    def write(self, name: str, text: str) -> None:
        """Raises Retryable."""
        try:
            self._nft = self._nft or Nft()
            self._nft.carry_out(text)
        except OSError as error:
            raise Retryable(f"{lacking() or error}") from None
        except ValueError as error:
            raise Retryable(f"nftables does not take the table {name}: {str(error)[:_SAID]}") from None

    def close(self) -> None:
        self.kernel.close()
        if self._nft is not None:
            self._nft.close()


class Firewall:
    """One table, `reconciler_` and twelve digits of the owner. Safe in any thread of one network namespace."""

    def __init__(self, owner: str) -> None:
        self.name = f"reconciler_{owner[:12]}"
        self._comment = f"reconciler {owner}"
        self._wanted: str | None = None  # None: there is to be no such table
        self._seen: _Sight | None = None
        self._hand: _Hand | None = None
        self._guard: threading.Thread | None = None
        self._mended: float | None = None  # when it was put back last, by the monotonic clock
        self._lock = threading.Lock()

    def hold(self, segments: list[table.Segment], published: list[table.Publication]) -> None:
        """Have it say that, and see to it from now on; without networks there is none. Raises OSError, Retryable."""
        text = table.ruleset(self.name, self._comment, segments, published)
        with self._lock:
            self._hand = self._hand or _Hand()
            if not segments:
                self._remove(text)
                return
            if text != self._wanted:
                self._wanted, self._seen = text, None
            try:
                self._put_back()
            finally:
                if self._guard is None:
                    self._guard = threading.Thread(target=self._keep, name="nftables", daemon=True)
                    self._guard.start()

    def mend(self) -> str | None:
        """Look whether it is as it is to be, and put it back if not; why that cannot be done."""
        with self._lock:
            try:
                if self._wanted is not None and self._put_back(whatever_is_counted=True):
                    self._mended = time.monotonic()
                    log.warning("%s", self.mended())
            except (OSError, Retryable) as error:
                return f"table {self.name} of nftables cannot be put back: {error}"
        return None

    def mended(self) -> str | None:
        """That somebody else changed it lately, which is put back; None if nobody did."""
        if self._mended is None or time.monotonic() > self._mended + _TOLD:
            return None
        return f"table {self.name} of nftables was changed by somebody else, and is put back"

    def _remove(self, text: str) -> None:
        self._wanted = self._seen = None
        assert self._hand is not None
        hand, self._hand = self._hand, None
        try:
            if hand.kernel.contents(self.name) is not None:
                hand.write(self.name, text)
        finally:
            hand.close()

    def _keep(self) -> None:
        """In a thread of its own, as long as there is a table: changes are told, so that nobody waits for a look."""
        said = None
        try:
            with Changes() as changes:
                while self._needed():
                    time.sleep(_BURST)
                    if (why := self.mend()) is None:
                        changes.wait()
                        continue
                    if why != said:
                        log.warning("%s", why)
                    said = why
                    time.sleep(_AGAIN)
        except OSError as error:
            log.warning("changes of nftables are not told, so they are seen later: %s", error)
            with self._lock:
                self._guard = None

    def _needed(self) -> bool:
        with self._lock:
            if self._wanted is None:
                self._guard = None
            return self._wanted is not None

    def _put_back(self, *, whatever_is_counted: bool = False) -> bool:
        """Whether somebody had changed it. It may be changed while it is written: then it is written again.

        The kernel counts a change before it makes it, and tells of it after: who looked between the two has the number
        already, so who is told looks at the contents."""
        assert self._wanted is not None and self._hand is not None
        kernel, changed = self._hand.kernel, False
        if self._seen is not None:
            generation = kernel.generation()
            if generation == self._seen.generation and not whatever_is_counted:
                return False
            if kernel.contents(self.name) == self._seen.contents:
                self._seen = _Sight(generation, self._seen.contents)
                return False
            changed = True
        for _ in range(_TRIES):
            before = kernel.generation()
            self._hand.write(self.name, self._wanted)
            contents = kernel.contents(self.name)
            self._seen = _Sight(kernel.generation(), contents)
            if self._seen.generation == before + 1:
                break
        return changed
