"""Whether the ports that a container is to publish are nobody's: part of the isolator `network`.

A rule that leads a port of the host elsewhere takes it from whoever listens there, without a word; so nobody may. What
the loop knows of specs is not enough: a program of the host may listen, and what is on its way out still has its port.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from reconciler.errors import Retryable
from reconciler.runtime.kernel import sock_diag
from reconciler.runtime.kernel.sock_diag import Listener
from reconciler.runtime.network.driver import Held, Port
from reconciler.spec.ports import same_address
from reconciler.states import Reason

_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}


def claim(container: str, ports: Sequence[Port], held: Mapping[str, Iterable[Held]], *, own: bool) -> None:
    """held: of every container. own: what listens in the container itself is in the way, too. Raises Retryable."""
    for port in ports:
        for name, lines in held.items():
            if name != container and any(_same(port, each) for line in lines for each in line.request.ports):
                raise Retryable(f"{_port(port)} is still that of {name}", Reason.PORT_TAKEN)
        there = [each for each in _listeners(port) if own or not _is_in(container, each)]
        if there:
            listener = there[0]
            raise Retryable(f"{_port(port)}: {_whom(listener)} listens on {listener} already", Reason.PORT_TAKEN)


def _listeners(port: Port) -> Iterator[Listener]:
    protocol = _PROTOCOLS.get(port.protocol)
    for each in sock_diag.listeners(protocol) if protocol is not None else ():
        everywhere = each.address == "::"  # of IPv4, too, unless it says otherwise
        if each.port == port.host and (everywhere or same_address(port.host_ip, each.address)):
            yield each


def _whom(listener: Listener) -> str:
    pid = _holder(listener)
    if pid is None:
        return "a program of the host"
    with contextlib.suppress(OSError):
        return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (process {pid})"
    return f"process {pid}"


def _is_in(container: str, listener: Listener) -> bool:
    """Whether its cgroup bears the container's name: then it ends with what runs."""
    pid = _holder(listener)
    with contextlib.suppress(OSError):
        places = Path(f"/proc/{pid}/cgroup").read_text().replace("\n", "/").split("/")
        return any(place == container or place.startswith(f"{container}.") for place in places)
    return False


def _holder(listener: Listener) -> int | None:
    pids = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())
    return sock_diag.holders(pids).get(listener.inode)


def _same(one: Port, other: Port) -> bool:
    same = (one.host, one.protocol) == (other.host, other.protocol)
    return same and same_address(one.host_ip, other.host_ip)


def _port(port: Port) -> str:
    at = f" at {port.host_ip}" if port.host_ip is not None else ""
    return f"port {port.host}/{port.protocol} of the host{at}"
