"""The driver of CNI networks: a chain of plugins per network, called for each container in turn.

    ADD    first to last, each with the result of the one before
    CHECK  first to last, with the result of the last ADD: now and then, while the container runs
    DEL    last to first, with that result

What DEL needs is in the attachment, configuration included, so that a network can be taken away from its directory
while containers have it. The namespace is a descriptor of ours that the plugins find below /proc; DEL is without one:
by then the namespace is gone, with all its interfaces, and what plugins keep elsewhere (leased addresses, rules of a
firewall) is what they give back. That holds after a reboot, too. A half-made attachment is undone with the
configuration of that moment.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.errors import Retryable
from reconciler.runtime.kernel.netlink import Message
from reconciler.runtime.kernel.rtnetlink import Rtnetlink
from reconciler.runtime.network.cni import configuration
from reconciler.runtime.network.cni.configuration import NetworkConfig
from reconciler.runtime.network.cni.plugins import Call, Plugins, Refused
from reconciler.runtime.network.driver import Attachment, Held, Request
from reconciler.runtime.network.namespaces import Namespace

log = logging.getLogger(__name__)

CONFIGURATIONS = Path("/etc/cni/net.d")
PLUGINS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
"""Where plugins are by the specification's habit, and where Debian puts them."""

_OWNER = 12  # characters of the owner's id before a container's name, lest two agents lease under one name


class CniDriver:
    name = "cni"

    def __init__(self, owner: str, configurations: Path, plugins: Plugins) -> None:
        self._owner = owner
        self._configurations = configurations
        self._plugins = plugins

    def networks(self) -> Sequence[str]:
        return tuple(configuration.read(self._configurations))

    def check(self, request: Request) -> list[str]:
        config = self._config(request.network)
        if isinstance(config, str):
            return [config]
        kinds = sorted(set(_kinds(config)))
        found = [f"{why}, which {config.path} names" for kind in kinds if (why := self._plugins.missing(kind))]
        if request.ports and "portMappings" not in config.capabilities:
            found.append(
                f"no plugin of network {config.name} publishes ports: in {config.path} one must have the capability "
                "portMappings, such as portmap"
            )
        return found

    def foresee(self, request: Request) -> None:
        """Only its plugins know."""

    def begin(self, request: Request) -> None:
        """Its plugins are asked once there is a namespace."""

    def attach(self, request: Request, namespace: Namespace) -> Attachment:
        config = self._config(request.network)
        if isinstance(config, str):
            raise Retryable(config)
        result = self._add(config, request, f"/proc/{os.getpid()}/fd/{namespace.fd}")
        addresses = tuple(str(each["address"]) for each in _objects(result, "ips") if "address" in each)
        if request.ip is not None and request.ip not in {each.partition("/")[0] for each in addresses}:
            raise Retryable(
                f"network {config.name} gave {', '.join(addresses) or 'no address'} where {request.ip} was asked for: "
                f"its plugins ({', '.join(_kinds(config))}) take no address from whoever calls them"
            )
        return Attachment(
            addresses=addresses,
            gateways=tuple(str(each["gateway"]) for each in _objects(result, "ips") if each.get("gateway")),
            dns=_dns(result),
            links=tuple(str(each["name"]) for each in _objects(result, "interfaces") if not each.get("sandbox")),
            details={"config": config.as_json(), "result": result},
        )

    def detach(self, request: Request, attachment: Attachment | None) -> None:
        config = _recorded(attachment) if attachment is not None else self._config(request.network)
        if isinstance(config, str):
            log.warning("%s: what was begun of its networks stays: %s", request.container, config)
            return
        result = attachment.details["result"] if attachment is not None and config.remembers else None
        call, until = self._call("DEL", request, ""), self._until()
        for plugin in reversed(config.plugins):
            self._plugins.run(plugin["type"], call, config.for_plugin(plugin, _wanted(request), result), until)

    def lacks(self, request: Request, attachment: Attachment, netns: str) -> str | None:
        config, now = _recorded(attachment), self._config(request.network)
        if isinstance(config, str) or not config.remembers or config.unchecked:
            return None
        if isinstance(now, NetworkConfig) and now.unchecked:  # said since
            return None
        result = _found_at(netns, attachment.details["result"])
        call, until = self._call("CHECK", request, netns), self._until()
        for plugin in config.plugins:
            try:
                self._plugins.run(plugin["type"], call, config.for_plugin(plugin, _wanted(request), result), until)
            except Refused as refused:
                return refused.message
        return None

    def taken(
        self, request: Request, attachment: Attachment, here: Rtnetlink, inside: Rtnetlink
    ) -> tuple[list[Message], list[Message]]:
        """Its plugins don't give back: what CHECK finds ends the run."""
        return [], []

    def mend(self) -> str | None:
        """All it has is containers' own."""
        return None

    def recover(self, held: Sequence[Held]) -> None:
        """Nothing bears our mark but what is in the record."""

    def _add(self, config: NetworkConfig, request: Request, netns: str) -> dict[str, Any]:
        call, until = self._call("ADD", request, netns), self._until()
        result: dict[str, Any] | None = None
        for plugin in config.plugins:
            asked = config.for_plugin(plugin, _wanted(request), result)
            result = self._plugins.run(plugin["type"], call, asked, until)
            if result is None:
                raise Retryable(f"CNI plugin {plugin['type']}, ADD of network {config.name}: it gave no result")
        return result or {}

    def _until(self) -> float:
        return time.monotonic() + self._plugins.seconds

    def _call(self, verb: str, request: Request, netns: str) -> Call:
        container = f"{self._owner[:_OWNER]}-{request.container}"
        arguments = f"IgnoreUnknown=1;IP={request.ip}" if request.ip is not None else "IgnoreUnknown=1"
        return Call(verb, container, netns, request.ifname, arguments)

    def _config(self, network: str) -> NetworkConfig | str:
        """As it is configured now; or why there is none."""
        unknown = f"there is no network {network} in {self._configurations}"
        return configuration.read(self._configurations).get(network, unknown)


def _recorded(attachment: Attachment) -> NetworkConfig | str:
    try:
        return configuration.parse(attachment.details["config"], "")
    except (KeyError, ValueError) as error:
        return f"the record of it has no configuration: {error}"


def _found_at(netns: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The result of ADD with that path for the namespace: plugins compare it with the one they are called with, and
    ADD's was a descriptor of an agent's."""
    moved = [{**each, "sandbox": netns} if each.get("sandbox") else each for each in _objects(result, "interfaces")]
    return {**result, "interfaces": moved} if moved else dict(result)


def _kinds(config: NetworkConfig) -> list[str]:
    """Of the plugins it calls, with those that these call for addresses."""
    found = []
    for plugin in config.plugins:
        found.append(str(plugin["type"]))
        ipam = plugin.get("ipam")
        if isinstance(ipam, dict) and isinstance(ipam.get("type"), str):
            found.append(ipam["type"])
    return found


def _wanted(request: Request) -> dict[str, Any]:
    """By capability, "conventions" of the specification; a plugin is given those it says it takes."""
    found: dict[str, Any] = {}
    if request.ports:
        found["portMappings"] = [
            {
                "hostPort": port.host,
                "containerPort": port.container,
                "protocol": port.protocol,
                **({"hostIP": port.host_ip} if port.host_ip is not None else {}),
            }
            for port in request.ports
        ]
    if request.ip is not None:
        found["ips"] = [request.ip]
    return found


def _objects(result: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = result.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _dns(result: Mapping[str, Any]) -> dict[str, list[str]]:
    given = result.get("dns")
    dns: Mapping[str, Any] = given if isinstance(given, dict) else {}
    domain = [str(dns["domain"])] if dns.get("domain") else []
    found = {key: [str(each) for each in dns.get(key) or ()] for key in ("nameservers", "search", "options")}
    found["search"] = domain + [each for each in found["search"] if each not in domain]
    return found if any(found.values()) else {}
