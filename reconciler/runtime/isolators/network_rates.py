"""How fast a pod may receive and send on each of its networks: part of the isolator `network`.

    others ── bridge ── host's end ══ veth ══ container's end
                        ingress ─▶             ◀─ egress

Each end limits what it sends, so that what is too much waits where it comes from. The container's end is in its own
network namespace: who has NET_ADMIN there can take the limit away, so nobody is given both by one spec.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import OF_INTERFACE
from reconciler.runtime.kernel import traffic_control
from reconciler.runtime.kernel.rtnetlink import Rtnetlink
from reconciler.states import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.runtime.containerizer import Usage
    from reconciler.runtime.kernel.rtnetlink import Link
    from reconciler.runtime.network.driver import Request
    from reconciler.runtime.network.namespaces import Namespace
    from reconciler.spec.model import ContainerSpec

FIELD = "resources.limits.network"
_ADMINISTRATORS = frozenset({"NET_ADMIN", "ALL"})


def refused(spec: ContainerSpec, *, connected: bool) -> Iterator[str]:
    rates, security = spec.resources.limits.network, spec.security
    if rates is None:
        return
    if not connected:
        yield f"spec.{FIELD}: is for containers with networks of their own"
    elif rates.egress is not None and (security.privileged or _ADMINISTRATORS & {*security.capabilities.add}):
        yield f"spec.{FIELD}.egress: with the capability NET_ADMIN the container could take it away"


def probe(namespace: Namespace) -> None:
    """Whether this kernel can do it, tried where nothing else is. Raises Retryable."""
    inside = namespace.inside()
    lo = inside.index("lo")
    _limit(inside, lo, 1 << 20)
    _limit(inside, lo, None)


def enforce(namespace: Namespace, request: Request) -> None:
    """What the request says of its interface, and no more. Raises OSError, Retryable."""
    inside = namespace.inside()
    own = next(link for link in inside.links() if link.name == request.ifname)
    with Rtnetlink() as here:
        if (end := _end(here, own)) is None:
            what = f"{request.ifname} has no end on the host: it is of type {own.kind or 'device'}"
            raise Retryable(f"spec.{FIELD}: network {request.network} cannot be limited: {what}", Reason.LAUNCH_FAILED)
        _limit(here, end.index, request.ingress)
    _limit(inside, own.index, request.egress)


def in_force(namespace: Namespace, request: Request) -> Usage:
    """ingress_limit and egress_limit of its interface, in bytes per second; nothing for one that is not there. Raises
    OSError."""
    inside = namespace.inside()
    own = next((link for link in inside.links() if link.name == request.ifname), None)
    if own is None:
        return {}
    with Rtnetlink() as here:
        end = _end(here, own)
        rates = {
            "ingress_limit": None if end is None else traffic_control.rate(here, end.index),
            "egress_limit": traffic_control.rate(inside, own.index),
        }
    return {f"{OF_INTERFACE}{request.ifname}.{which}": rate for which, rate in rates.items()}


def _end(here: Rtnetlink, own: Link) -> Link | None:
    """The host's of its pair."""
    pairs = (link for link in here.links() if link.index == own.peer and link.peer == own.index)
    return next((link for link in pairs if link.kind == "veth"), None)


def _limit(link: Rtnetlink, index: int, rate: int | None) -> None:
    try:
        traffic_control.limit(link, index, rate)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        lacks = "this kernel has no token bucket filter (sch_tbf)"
        raise Retryable(f"spec.{FIELD}: {lacks}", Reason.LAUNCH_FAILED) from error
