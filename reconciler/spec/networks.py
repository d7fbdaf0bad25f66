"""The file of networks that `--networks` names: which bridges there are to be, and what they are like.

    networks:
      back: {subnet: 10.20.0.0/24, mtu: 1400, internal: true}
      bridge: {subnet: 10.30.0.0/22}

It is read as a spec file is, and its errors have a place each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt, ValidationError, field_validator
from pydantic_core import ErrorDetails

from reconciler.spec import complaints, loader
from reconciler.spec.document import Finding
from reconciler.spec.errors import SpecError
from reconciler.spec.kinds import WRITTEN, Flag, Label, Part, refuse
from reconciler.spec.nodes import Node, read_documents

SMALLEST_MTU, LARGEST_MTU = 1280, 65535
"""What IPv6 asks of a link (RFC 8200, section 5), and what one of Linux can have (ETH_MAX_MTU)."""


Range = IPv4Network | IPv6Network


def _range(version: int, example: str, widest: int, narrowest: int) -> Callable[[Any], Range]:
    def read(value: Any) -> Range:
        hint = f"such as {example}"
        if not isinstance(value, str) or "/" not in value:
            raise refuse("must be a range of addresses with its prefix", hint)
        try:
            found = ip_interface(value).network
        except ValueError:
            raise refuse(f"{value} is no range of addresses", hint) from None
        if found.version != version:
            raise refuse(f"{value} is not of IPv{version}", hint)
        if found.network_address != ip_interface(value).ip:
            raise refuse(f"{value} is one address of a range", f"did you mean {found}?")
        if not widest <= found.prefixlen <= narrowest:
            raise refuse(f"a range of IPv{version} is from /{widest} to /{narrowest}")
        if found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified:
            raise refuse(f"addresses of {found} cannot be given to containers", hint)
        return found

    return read


_ipv4 = _range(4, "10.20.0.0/24", 16, 29)
_ipv6 = _range(6, "fd00:20::/64", 48, 112)  # no narrower than the widest of IPv4


class Network(Part):
    """A bridge of the host, which containers name in `networks`."""

    subnet: Annotated[IPv4Network, BeforeValidator(_ipv4)] | None = None
    subnet6: Annotated[IPv6Network, BeforeValidator(_ipv6)] | None = None
    mtu: StrictInt | None = None
    internal: Flag = False
    masquerade: Flag = True

    @field_validator("mtu")
    @classmethod
    def _of_a_link(cls, value: int | None) -> int | None:
        if value is not None and not SMALLEST_MTU <= value <= LARGEST_MTU:
            raise refuse(f"an MTU is from {SMALLEST_MTU} to {LARGEST_MTU}")
        return value


class NetworksFile(Part):
    networks: Mapping[Label, Network] = Field(default_factory=dict)


def load(data: bytes, file: str) -> tuple[Mapping[str, Network], tuple[SpecError, ...]]:
    """What the file says, or what is wrong with it. Never raises."""
    text, error = loader.decode(data, file)
    if error is not None:
        return {}, (error,)
    trees = list(read_documents(text, 1))
    if len(trees) > 1 and (second := trees[1].root) is not None:
        return {}, (SpecError(file, second.line, second.column, "", "must be one document"),)
    if not trees:
        return {}, ()
    if (root := trees[0].root) is not None and not trees[0].problems:
        return _read(root, file)
    return {}, tuple(
        SpecError(file, each.line, each.column, loader.join_path(each.path), each.message, each.hint)
        for each in trees[0].problems
    )


def _read(root: Node, file: str) -> tuple[Mapping[str, Network], tuple[SpecError, ...]]:
    if not isinstance(root.value, dict):
        hint = "networks: {back: {internal: true}}"
        return {}, (SpecError(file, root.line, root.column, "", "must be a map with `networks`", hint),)
    try:
        found = NetworksFile.model_validate(root.value, context=WRITTEN).networks
        findings = list(_overlaps(found))
    except ValidationError as error:
        found, findings = {}, [_finding(each, root) for each in error.errors(include_url=False)]
    errors = [loader.error_at(each, root, file) for each in findings]
    return ({} if errors else found), tuple(sorted(errors, key=lambda each: (each.line, each.column)))


def _finding(detail: ErrorDetails, root: Node) -> Finding:
    found = loader.finding(detail, root)
    if detail["type"] != "extra_forbidden":
        return found
    known = list((NetworksFile if len(found.path) == 1 else Network).model_fields)
    return replace(found, hint=complaints.meant(str(found.path[-1]), known) or f"known: {', '.join(known)}")


def _overlaps(networks: Mapping[str, Network]) -> Iterator[Finding]:
    seen: list[tuple[str, Range]] = []
    for name, network in networks.items():
        for field, wanted in (("subnet", network.subnet), ("subnet6", network.subnet6)):
            for other, theirs in seen:
                if wanted is not None and wanted.version == theirs.version and wanted.overlaps(theirs):
                    yield Finding(("networks", name, field), f"{wanted} overlaps with {theirs} of {other}")
            if wanted is not None:
                seen.append((name, wanted))
