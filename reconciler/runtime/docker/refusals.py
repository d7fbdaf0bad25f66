"""What a spec asks for and no engine can give, each with its field and the reason: pure.

Invariant: every field of a spec is in an engine's words (`mapping`), the loop's own business, or refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reconciler.errors import Terminal
from reconciler.runtime.docker import image_names
from reconciler.runtime.fetcher import schemes
from reconciler.spec.model import EnvFromSecret
from reconciler.spec.namespaces import Sharing, effective

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec, Volume

SANDBOX = "/mnt/mesos/sandbox"  # as in Mesos
_VOLUMES = frozenset({"hostPath", "tmpfs", "volume", "secret"})
_LIMITS = {
    "disk": ("disk", "an engine does not limit what a container writes"),
    "hugepages": ("hugepages", "an engine does not limit huge pages"),
    "network": ("network", "an engine does not limit rates of networks"),
}
_REQUESTS = {
    "memory_swap": "memorySwap",
    "pids": "pids",
    "disk": "disk",
    "io": "io",
    "cpuset": "cpuset",
    "hugepages": "hugepages",
    "network": "network",
}
_OWN_SECURITY = ("seccomp", "no-new-privileges")


def refusals(spec: ContainerSpec) -> tuple[tuple[str, str], ...]:
    """(field, why) for each; the field as it is written, below `spec`."""
    return (*_place(spec), *_namespaces(spec), *_attachments(spec), *_amounts(spec), *_options(spec))


def sentences(spec: ContainerSpec, no_secrets: str) -> list[str]:
    """The same of this host too. no_secrets: why it can keep none in memory, "" when it can."""
    found = [*(f"spec.{field}: {why}" for field, why in refusals(spec)), *schemes.refusals(spec)]
    if no_secrets and any(volume.type == "secret" for volume in spec.volumes):
        found.append(f"spec.volumes: secret: {no_secrets}")
    return found


def _place(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    if spec.class_ == "debug":
        yield "class", "an engine's containers stand side by side; `reconciler exec` runs a command in one"
    elif spec.parent is not None:
        yield "type", "nested containers: an engine's containers stand side by side"
    if spec.image is None:
        yield "image", "an engine runs images only; name one"
    elif why := _why_no_image(spec.image.reference):
        yield "image.reference", why
    if spec.rootfs is not None:
        yield "rootfs", "an engine runs images only"
    if spec.isolators:
        yield "isolators", "an engine has none; its own options go below `docker`"


def _why_no_image(reference: str) -> str:
    """Of one in a file of this host; what else there is the engine knows."""
    try:
        image_names.local(reference)
    except Terminal as error:
        return error.message.partition(": ")[2]
    return ""


def _namespaces(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    table = effective(spec)
    if spec.parent is None and table["uts"] is Sharing.HOST and table["network"] is Sharing.PRIVATE:
        yield "namespaces.uts", "host: not with a network of its own"
    if spec.ports and table["network"] is Sharing.HOST:
        yield "ports", "on the host's network an engine maps none: every port is the host's already"
    if spec.namespaces.user == "private":
        yield "namespaces.user", "private: an engine maps users for all of its containers or for none"


def _attachments(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    for number, volume in enumerate(spec.volumes):
        if (why := _volume(volume)) is not None:
            yield f"volumes[{number}].type", why
    for name, value in spec.env.items():
        if isinstance(value, EnvFromSecret):
            yield (
                f"env.{name}",
                "secretFile: an engine shows every variable to whoever may ask it; mount it: volumes of type secret",
            )


def _volume(volume: Volume) -> str | None:
    if volume.type == "sandboxPath":  # by its path on the host, in which the container may have planted a link
        return f"sandboxPath: the whole sandbox is at {SANDBOX} already"
    if volume.type == "image":
        return "image: engines before 28 mount none; have the files in the container's own image, or use type: mesos"
    return None if volume.type in _VOLUMES else f"an engine has no volumes of type {volume.type}"


def _amounts(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    for name, (alias, why) in _LIMITS.items():
        if getattr(spec.resources.limits, name):
            yield f"resources.limits.{alias}", why
    for name, alias in _REQUESTS.items():
        if getattr(spec.resources.requests, name):
            yield f"resources.requests.{alias}", "an engine sets aside cpus and memory only"


def _options(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    for number, option in enumerate(spec.docker.security_options):
        if option.startswith(_OWN_SECURITY):
            yield f"docker.securityOptions[{number}]", "has a field of its own below `security`"
