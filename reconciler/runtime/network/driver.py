"""The NetworkDriver contract: who connects a container's network namespace to networks, and takes it off again.

    check ─▶ (record: begun) ─▶ begin ─▶ attach(namespace) ─▶ Attachment (recorded) … ─▶ detach ─▶ (record gone)

The record is written before `attach` begins, so whatever an agent that was killed left half made is handed to `detach`,
without an attachment, by the next one. A driver keeps nothing on disk that it could not do without: `recover` tells it
what is held. Every method blocks and may be called from any thread, several at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from reconciler.runtime.kernel.netlink import Message
from reconciler.runtime.kernel.rtnetlink import Rtnetlink
from reconciler.runtime.network.namespaces import Namespace

LOOK = 30.0


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the host that leads to one of the container. host_ip None: on every address of the host."""

    host: int
    container: int
    protocol: str
    host_ip: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One network for one container.

    ifname:   of the interface inside: eth0, eth1, … in the order of the spec
    ip:       the address to have; None: any
    ports:    published by this network: the container's first one
    default:  the container's way to everywhere else leads through it: its first one
    hostname: which others there know it by too, if it is not its name
    ingress, egress:  bytes per second that it may receive and send there; None: as many as it can
    """

    container: str
    network: str
    ifname: str
    ip: str | None = None
    ports: tuple[Port, ...] = ()
    default: bool = True
    hostname: str | None = None
    ingress: int | None = None
    egress: int | None = None

    @property
    def limited(self) -> bool:
        return self.ingress is not None or self.egress is not None


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a container has of a network, as JSON has it.

    addresses:  with the prefix's length, "10.1.2.3/24"
    gateways:   where its default routes lead, if it is the default network
    dns:        as in resolv.conf(5): {nameservers: [...], search: [...], options: [...]}; empty: as the host
    links:      on the host, by name
    details:    the driver's own: all it needs for `detach` when the network is not configured any more
    """

    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Held:
    """A line of the record. driver: by name. attachment None: begun, and perhaps half made. boot: the boot's id; of
    an earlier one nothing in the kernel is left, what a driver keeps on disk may be. interval: seconds between one
    look at it and the next; found: it was as it was made at one of them."""

    driver: str
    request: Request
    boot: str
    attachment: Attachment | None = None
    interval: float = LOOK
    found: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Held:
        """The inverse. Raises KeyError, TypeError for what is no such line."""
        asked, given = dict(data["request"]), data["attachment"]
        asked["ports"] = tuple(Port(**port) for port in asked["ports"])
        if given is not None:
            made: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
            }
            given = Attachment(**made)
        looks = {key: data[key] for key in ("interval", "found") if key in data}
        return cls(data["driver"], Request(**asked), data["boot"], given, **looks)


class NetworkDriver(Protocol):
    """name: in the record, so it never changes."""

    @property
    def name(self) -> str: ...

    def networks(self) -> Sequence[str]:
        """Those it can connect to at this moment. Quick: asked at each launch."""
        ...

    def check(self, request: Request) -> list[str]:
        """Why it can never be carried out here, a sentence each, put behind the field it came from ("spec.networks[0]:
        …"). Changes nothing."""
        ...

    def foresee(self, request: Request) -> None:
        """What is in its way at this moment and may go by itself. Changes nothing. Raises OSError, Retryable."""
        ...

    def begin(self, request: Request) -> None:
        """`attach` comes soon: what can be made for it by then may be, in the background. What fails of that fails in
        `attach` again, and says so there. Quick."""
        ...

    def attach(self, request: Request, namespace: Namespace) -> Attachment:
        """namespace: the container's, in which nothing runs yet; another program finds it at
        /proc/<our pid>/fd/<namespace.fd>. Raises OSError, Retryable or Terminal; what it made by then is `detach`'s."""
        ...

    def detach(self, request: Request, attachment: Attachment | None) -> None:
        """Undo `attach`, however far it got; nothing to undo is no error. The namespace is gone, or about to be, and
        what goes with it need not be waited for."""
        ...

    def lacks(self, request: Request, attachment: Attachment, netns: str) -> str | None:
        """What is not as it was made, a sentence; None if all is. netns: where its namespace is found. Changes nothing.
        Raises OSError, Retryable when that cannot be had."""
        ...

    def taken(
        self, request: Request, attachment: Attachment, here: Rtnetlink, inside: Rtnetlink
    ) -> tuple[list[Message], list[Message]]:
        """What gives back what somebody took of it and can be had again at once: on the host, inside. Changes nothing.
        Raises OSError."""
        ...

    def mend(self) -> str | None:
        """Put back what somebody took of that which belongs to no container alone. A sentence: why that cannot be done,
        or that it was, for a while. Called with each look."""
        ...

    def recover(self, held: Sequence[Held]) -> None:
        """A new agent: what is attached, or was begun, by this driver; everything else that bears our mark goes."""
        ...
