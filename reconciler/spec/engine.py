"""Options that only a Docker Engine knows: `docker:` of a spec, each with the engine's own meaning.

Invariant: nothing here does what another field of the spec does, or takes away what the containerizer counts on (name,
labels, restart policy, image, mounts of the sandbox, the stop signal).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt, StrictStr

from reconciler.spec.kinds import Part, Text


class DockerOptions(Part):
    """What an engine can do for a container beyond the other fields."""

    dns: tuple[Text, ...] = Field((), description="Addresses of name servers.")
    dns_search: tuple[Text, ...] = Field((), description="Domains that names are looked up in.")
    dns_options: tuple[Text, ...] = Field((), description="Options of resolv.conf.")
    extra_hosts: dict[Text, Text] = Field(
        default_factory=dict, description="Names and their addresses, for /etc/hosts."
    )
    domainname: Text | None = Field(None, description="NIS domain name.")
    group_add: tuple[Text, ...] = Field((), description="Further groups of its user, by name or number.")
    cgroup_parent: Text | None = Field(None, description="The cgroup above the container's own.")
    memory_swappiness: Annotated[StrictInt, Field(ge=0, le=100)] | None = Field(
        None, description="How readily its memory is swapped out."
    )
    oom_score_adj: Annotated[StrictInt, Field(ge=-1000, le=1000)] | None = Field(
        None, description="How readily it is killed for want of memory."
    )
    blkio_weight: Annotated[StrictInt, Field(ge=10, le=1000)] | None = Field(
        None, description="Weight in sharing block devices."
    )
    device_cgroup_rules: tuple[Text, ...] = Field((), description='Devices it may use: "c 1:3 mr".')
    security_options: tuple[Text, ...] = Field((), description='Such as "apparmor=PROFILE" or "label=disable".')
    storage_options: dict[Text, StrictStr] = Field(
        default_factory=dict, description="Options of the engine's storage driver for its root file system."
    )
    runtime: Text | None = Field(None, description="Which of the engine's runtimes runs it.")
    log_driver: Text | None = Field(None, description="Where its output goes; json-file when not given.")
    log_options: dict[Text, StrictStr] = Field(default_factory=dict, description="Options of logDriver.")
