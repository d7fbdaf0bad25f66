"""The container as everything but the loader sees it: one flat, normalised, frozen value.

Invariant: a ContainerSpec says everything about one container but what its name implies; nested
ones are ContainerSpecs of their own, with dotted names, parents first. Quantities are numbers. The
fields are those of the spec's documented table; the document people write is `document`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictStr, Tag

from reconciler.spec.attachments import (
    Device,
    EnvFromFile,
    EnvFromSecret,
    Image,
    NetworkAttachment,
    PortMapping,
    Uri,
    Volume,
)
from reconciler.spec.engine import DockerOptions
from reconciler.spec.executors import Executor, Task
from reconciler.spec.isolation import Capabilities, Namespaces, Rlimit, Security
from reconciler.spec.kinds import Argv, Duration, Flag, Hostname, Part, Text, User, VariableName
from reconciler.spec.policies import Backoff, Dependency, HealthCheck, HttpProbe, KillPolicy, Logging, TcpProbe
from reconciler.spec.resources import DeviceRates, ResourceAmounts, ResourceRequests, Resources

__all__ = [
    "Backoff",
    "Capabilities",
    "ContainerSpec",
    "Dependency",
    "Device",
    "DeviceRates",
    "DockerOptions",
    "EnvFromFile",
    "EnvFromSecret",
    "Executor",
    "HealthCheck",
    "HttpProbe",
    "Image",
    "KillPolicy",
    "Logging",
    "Namespaces",
    "NetworkAttachment",
    "PortMapping",
    "ResourceAmounts",
    "ResourceRequests",
    "Resources",
    "Rlimit",
    "Security",
    "Settings",
    "Task",
    "TcpProbe",
    "Uri",
    "Volume",
]

VARIANT = "variant:"
"""Prefix of the tags below, so that an error's path can be cleaned of them."""


def _env_kind(value: Any) -> str:
    if isinstance(value, EnvFromSecret) or (isinstance(value, dict) and ("secretFile" in value)):
        return VARIANT + "secret"
    return VARIANT + ("file" if isinstance(value, EnvFromFile | dict) else "text")


EnvValue = Annotated[
    Annotated[StrictStr, Tag(VARIANT + "text")]
    | Annotated[EnvFromFile, Tag(VARIANT + "file")]
    | Annotated[EnvFromSecret, Tag(VARIANT + "secret")],
    Discriminator(_env_kind),
]


class Settings(Part):
    """Every field that a container may have, wherever it stands in the tree."""

    type: Literal["mesos", "docker"] = Field("mesos", description="Which containerizer may take it: mesos or docker.")
    image: Image | None = Field(None, description="Image of the root file system; none: the host's file system.")
    rootfs: Text | None = Field(None, description="Directory that is the root file system, in place of an image.")
    command: Argv | None = Field(
        None, description="The program and its arguments, as a list; replaces the image's entrypoint."
    )
    shell: Text | None = Field(None, description="A line for /bin/sh -c, in place of command.")
    args: tuple[StrictStr, ...] = Field((), description="Further arguments for the command or the image's entrypoint.")
    env: dict[VariableName, EnvValue] = Field(
        default_factory=dict, description="Environment: a value, {fromFile: PATH} or {secretFile: PATH} by name."
    )
    working_dir: Text | None = Field(None, description="Working directory; the sandbox when not given.")
    user: User | None = Field(None, description='Who it runs as: "name", "uid" or "uid:gid".')
    tty: Flag = Field(False, description="Give it a terminal.")
    stdin: Flag = Field(False, description="Keep its standard input open.")
    executor: Executor | None = Field(None, description="A custom executor; none: the built-in one.")
    uris: tuple[Uri, ...] = Field((), description="What to fetch into the sandbox before the start.")
    resources: Resources = Field(default_factory=Resources, description="Requests and limits; they change in place.")
    namespaces: Namespaces = Field(default_factory=Namespaces, description="Which namespaces it has to itself.")
    networks: tuple[NetworkAttachment, ...] = Field((), description="Networks; none: loopback only if private.")
    ports: tuple[PortMapping, ...] = Field(
        (), description="Ports of the host that lead into a private network; on the host's, those it may listen on."
    )
    volumes: tuple[Volume, ...] = Field((), description="What is mounted in the container.")
    security: Security = Field(default_factory=Security, description="Privileges.")
    hostname: Hostname | None = Field(None, description="Host name; gives the container a uts namespace.")
    init: Flag = Field(True, description="true: pid 1 is an init that forwards signals and reaps; false: the payload.")
    rlimits: dict[Text, Rlimit] = Field(default_factory=dict, description="Limits per process by name: {nofile: …}.")
    devices: tuple[Device, ...] = Field((), description="Device nodes of the host.")
    sysctls: dict[Text, StrictStr] = Field(default_factory=dict, description="Kernel parameters of its namespaces.")
    logging: Logging = Field(default_factory=Logging, description="How much of its output is kept.")
    health_checks: tuple[HealthCheck, ...] = Field((), description="Checks for liveness, readiness and startup.")
    kill_policy: KillPolicy = Field(default_factory=KillPolicy, description="How it is asked to end.")
    restart_policy: Literal["Always", "OnFailure", "Never"] = Field("Always", description="When it is started again.")
    backoff: Backoff = Field(default_factory=Backoff, description="How long to wait before starting it again.")
    max_completion_time: Duration | None = Field(None, description="Ended as failed when it runs for longer.")
    depends_on: tuple[Dependency, ...] = Field((), description="Containers that must be so far before it starts.")
    class_: Literal["default", "debug"] = Field(
        "default", alias="class", description="debug: enters its parent's namespaces and is never restarted."
    )
    debug_parent: Text | None = Field(
        None, alias="parent", description="The container to debug, by its dotted name; only with class debug."
    )
    isolators: dict[Text, dict[str, Any]] = Field(
        default_factory=dict, description="Options for isolators, by the isolator's name."
    )
    docker: DockerOptions = Field(default_factory=DockerOptions, description="Options that only a Docker Engine knows.")
    node_selector: dict[Text, StrictStr] = Field(
        default_factory=dict, description="Runs only on nodes with these labels."
    )
    suspend: Flag = Field(False, description="Stop it and keep it stopped.")
    prune: Literal["auto", "confirm", "never"] | None = Field(
        None,
        description="What happens when its file is gone: auto destroys it, confirm once approved, never keeps it; "
        "not given: as auto, but a mass deletion waits for approval.",
    )


class ContainerSpec(Settings):
    """One container. `name` is its identity, dotted when nested: "shop.web"."""

    name: Text = Field(description="The container's full name.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the document; top level only.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the document.")
    init_container: bool = Field(False, description="Runs to completion before its siblings start.")

    @property
    def parent(self) -> str | None:
        """The enclosing container's name, None at the top level."""
        return self.name.rpartition(".")[0] or None

    @property
    def root(self) -> str:
        """The name of the top-level container this one belongs to."""
        return self.name.partition(".")[0]

    @property
    def label(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    @property
    def depth(self) -> int:
        """0 at the top level."""
        return self.name.count(".")

    @property
    def images(self) -> tuple[tuple[str, Image], ...]:
        """(field of its reference, image) for each that it needs at hand: of its root, and of its volumes."""
        own = [("image.reference", self.image)] if self.image is not None else []
        return (
            *own,
            *(
                (
                    f"volumes[{number}].source",
                    Image(reference=each.source, pull_policy=each.pull_policy or "IfNotPresent"),
                )
                for number, each in enumerate(self.volumes)
                if each.type == "image" and each.source
            ),
        )

    @property
    def holder(self) -> bool:
        """Has nothing of its own to run: it holds the namespaces that its nested containers share."""
        return self.command is None and self.shell is None and self.image is None and self.executor is None
