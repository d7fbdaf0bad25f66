"""Whether this host passes packets on between its links, which every way out of a network of ours needs.

    net.ipv4.ip_forward             set to 1 where it is 0
    net.ipv6.conf.all.forwarding    the same, unless the host has its own routes from router advertisements: by default
                                    it accepts none once it forwards, and would be cut off

These are settings of the whole host, which others may come to count on: what we set stays, and what it was is written
down. Everything else that we set is a bridge's own, and goes with it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from reconciler.errors import Retryable
from reconciler.runtime import durable
from reconciler.runtime.kernel import sysctls
from reconciler.runtime.kernel.rtnetlink import RTPROT_RA, Rtnetlink

log = logging.getLogger(__name__)

IPV4, IPV6 = "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"
_TAKES_ANYWAY = "2"  # accept_ra: even while it forwards


def enable(here: Rtnetlink, notes: Path, *, ipv6: bool) -> None:
    """notes: a file; what was set is added to it. Raises Retryable when IPv4 is not and cannot be forwarded."""
    _set(IPV4, notes)
    if not ipv6 or sysctls.read(IPV6) != "0":
        return
    if links := _advertised(here):
        log.warning(
            "%s is 0 and stays so, because routes of %s come from router advertisements, which would not be accepted "
            "any more: containers reach other machines over IPv4 alone, until accept_ra of these is 2 and it is set",
            IPV6,
            ", ".join(links),
        )
        return
    try:
        _set(IPV6, notes)
    except Retryable as error:
        log.warning("containers reach other machines over IPv4 alone: %s", error)


def noted(notes: Path) -> dict[str, str]:
    """Parameter → what it was before we set it."""
    try:
        found = json.loads(notes.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def told() -> str:
    """What this host does at present."""
    kinds = {"IPv4": sysctls.read(IPV4), "IPv6": sysctls.read(IPV6)}
    off = " and ".join(kind for kind, value in kinds.items() if value == "0")
    return f"forwarding of {off} is off, and set with the first bridge" if off else "the host forwards"


def _set(name: str, notes: Path) -> None:
    was = sysctls.read(name)
    if was != "0":
        return
    durable.replace(notes, json.dumps({**noted(notes), name: was}).encode(), sync=False)
    try:
        sysctls.write(name, "1")
    except OSError as error:
        raise Retryable(
            f"{name} is 0 and cannot be set, without which no container reaches other machines: {error}"
        ) from None
    log.warning("%s is set to 1, for networks of containers; it stays so when they are gone", name)


def _advertised(here: Rtnetlink) -> list[str]:
    """Links with routes that would be lost."""
    names = {link.index: link.name for link in here.links()}
    found = {names[each.index] for each in here.routes() if each.protocol == RTPROT_RA and each.index in names}
    return sorted(
        name for name in found if sysctls.read(f"net.ipv6.conf.{name.replace('.', '/')}.accept_ra") != _TAKES_ANYWAY
    )
