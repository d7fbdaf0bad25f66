"""Resources of a container: what it asks for and what it may not exceed.

Invariant: every figure is None (not set) or exact, in bytes, CPUs or counts; limits are what the
kernel enforces, requests what it weighs by. A limit is not below its request when both are given.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from reconciler.spec.kinds import Count, Cpus, CpuSet, Part, Size, Text, Weight


class DeviceRates(Part):
    """How fast one block device may be used; among the requests, the share of it."""

    weight: Weight | None = Field(
        None, description="Requests only: share of a busy device, 1 to 10000, as others: 100."
    )
    read_bps: Size | None = Field(None, description="Bytes read per second, with a unit: 10Mi.")
    write_bps: Size | None = Field(None, description="Bytes written per second, with a unit: 10Mi.")
    read_iops: Count | None = Field(None, description="Read operations per second.")
    write_iops: Count | None = Field(None, description="Write operations per second.")


class NetworkRates(Part):
    """How fast a pod may use each of its networks."""

    ingress: Size | None = Field(None, description="Bytes received per second, with a unit: 10Mi.")
    egress: Size | None = Field(None, description="Bytes sent per second, with a unit: 10Mi.")


class ResourceAmounts(Part):
    """One set of amounts: the requests or the limits."""

    cpus: Cpus | None = Field(None, description="CPUs, fractions allowed: 0.5.")
    memory: Size | None = Field(None, description="Memory, with a unit: 256Mi.")
    memory_swap: Size | None = Field(None, description="Memory and swap together, with a unit; needs memory.")
    pids: Count | None = Field(None, description="Processes and threads.")
    disk: Size | None = Field(None, description="Disk space of the sandbox, with a unit.")
    io: dict[Text, DeviceRates] = Field(
        default_factory=dict, description="Rates and weights per block device, by its path or MAJ:MIN."
    )
    network: NetworkRates | None = Field(None, description="Rates on each network of its own.")
    cpuset: CpuSet | None = Field(None, description='The CPUs it may run on: "0-3,7".')
    hugepages: dict[Text, Size] = Field(default_factory=dict, description="Huge pages by page size: {2Mi: 64Mi}.")


class ResourceRequests(ResourceAmounts):
    """What the container is expected to need; CPU time is shared in proportion to it."""

    cpus: Cpus | None = Field(0.5, description="CPUs, fractions allowed; the weight in sharing CPU time.")


def _as_requests(value: Any) -> Any:
    """Amounts built in code serve as requests, with what they leave out by default."""
    if isinstance(value, ResourceAmounts) and not isinstance(value, ResourceRequests):
        return ResourceRequests(**{name: getattr(value, name) for name in value.model_fields_set})
    return value


class Resources(Part):
    """Requests and limits; both change in place."""

    requests: Annotated[ResourceRequests, BeforeValidator(_as_requests)] = Field(
        default_factory=ResourceRequests, description="What the container is expected to need."
    )
    limits: ResourceAmounts = Field(default_factory=ResourceAmounts, description="What the container may not exceed.")
