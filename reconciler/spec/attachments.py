"""What is attached to a container from outside: image, files, networks, ports and volumes.

Invariant: targets inside a container never contain `..`, so that resolving them inside its root is
the only way they can be meant.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, StrictStr, model_serializer, model_validator

from reconciler.spec.kinds import Flag, InnerPath, Mode, Part, Sha256, Size, Text
from reconciler.spec.policies import Port

PullPolicy = Literal["Always", "IfNotPresent", "Never"]


class Image(Part):
    """The image a container's root file system comes from."""

    reference: Text = Field(description="The image: registry.example/team/web:1.4, or with a digest.")
    pull_policy: PullPolicy = Field("IfNotPresent", description="When to pull it.")
    health_check: Flag = Field(True, description="Make the health check that the image asks for, if the spec has none.")


class EnvFromFile(Part):
    """An environment variable whose value is a file's content."""

    from_file: Text = Field(description="Path of the file on the host.")


class EnvFromSecret(Part):
    """Like fromFile, but the value is shown nowhere."""

    secret_file: Text = Field(description="Path of the file on the host.")


class Uri(Part):
    """Something fetched into the sandbox before the container starts."""

    uri: Text = Field(description="What to fetch: an http, https or file URI, or a path.")
    sha256: Sha256 | None = Field(None, description="Refuse anything with another digest.")
    extract: Flag = Field(True, description="Unpack archives.")
    executable: Flag = Field(False, description="Make the file executable.")
    cache: Flag = Field(False, description="Keep it for the next container that asks for it.")
    destination: InnerPath | None = Field(None, description="Path in the sandbox; the URI's last part if not given.")


class NetworkAttachment(Part):
    """A network the container's private network namespace is connected to."""

    name: Text = Field(description="The built-in bridge, one of --networks, or a CNI network's name.")
    ip: Text | None = Field(None, description="The address to ask for.")


class PortMapping(Part):
    """A port of the host that leads to one of the container."""

    host: Port = Field(description="Port on the host.")
    container: Port = Field(description="Port in the container.")
    protocol: Literal["tcp", "udp", "sctp"] = Field("tcp", description="tcp, udp or sctp.")
    host_ip: StrictStr | None = Field(None, alias="hostIP", description="Only on this address of the host.")


class Volume(Part):
    """Something of the host, the sandbox, an image or memory that is mounted in the container."""

    type: Literal["hostPath", "sandboxPath", "tmpfs", "image", "secret", "volume"] = Field(
        description="Where its content comes from."
    )
    source: Text | None = Field(None, description="What is mounted, as its type has it: a path, an image, a name.")
    target: InnerPath = Field(description="Where it appears: an absolute path, or one in the sandbox.")
    scope: Literal["self", "parent"] | None = Field(
        None, description="For sandboxPath: whose sandbox the source lies in; self when not given."
    )
    read_only: Flag = Field(False, description="Mount it read-only; an image is, unless this is false.")
    pull_policy: PullPolicy | None = Field(
        None, description="Of an image: when to pull it; IfNotPresent when not given."
    )
    size: Size | None = Field(None, description="Of a tmpfs, with a unit; half of the memory when not given.")
    mode: Mode | None = Field(None, description='Of a tmpfs, as octal text; "1777" when not given.')
    propagation: Literal["private", "slave", "shared"] = Field(
        "private", description="Whether mounts made below it on one side appear on the other."
    )
    restart_on: Literal["content", "never"] = Field(
        "content", description="content: a changed source restarts the container."
    )

    @model_validator(mode="before")
    @classmethod
    def _images_are_read_only(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("type") == "image" and not {"readOnly", "read_only"} & data.keys():
            return {**data, "readOnly": True}
        return data

    @model_serializer(mode="wrap")
    def _with_what_is_no_default_here(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if self.type == "image":
            data["readOnly"] = self.read_only
        return data


class Device(Part):
    """A device node of the host in the container."""

    path: Text = Field(description="Path of the device on the host.")
    target: InnerPath | None = Field(None, description="Path in the container; the same when not given.")
    permissions: Literal["r", "w", "m", "rw", "rm", "wm", "rwm"] = Field(
        "rwm", description="read, write and make node."
    )
