"""What the fields of one container rule out in each other.

Invariant: a spec that passes the model and these rules can be carried out somewhere; every refusal
names the field to change. Fields of one model that concern nothing else are checked by the model
itself. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from reconciler.spec import amounts, namespaces, ports, targets, uris
from reconciler.spec.model import ContainerSpec, Device, DockerOptions, Volume
from reconciler.spec.tasks import SUMMED

Violation = tuple[str, str, str]
"""field, message, hint"""

_LABELS = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
_VOLUME_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,200}")
_SYSCTL = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)*(\.[a-z0-9_-]+(/[a-z0-9_-]+)*)+", re.IGNORECASE)
_OF_NAMESPACES = {
    "network": re.compile(r"net\..+"),
    "ipc": re.compile(r"kernel\.(shm[a-z_]*|msg[a-z_]*|sem)|fs\.mqueue\..+"),
}
_RLIMITS = frozenset(
    {"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue"}
    | {"nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"}
)
_THE_PARENTS = {
    **{name: name for name in ("image", "rootfs", "user", "hostname", "security", "networks", "ports", "volumes")},
    **{name: name for name in ("uris", "executor", "devices", "sysctls", "isolators")},
    "health_checks": "healthChecks",
}
_NEEDS_SOURCE = {"hostPath": "a path of the host", "sandboxPath": "a path in the sandbox", "image": "an image"}


def violations(spec: ContainerSpec, *, partial: bool = False) -> list[Violation]:
    """Everything that is wrong. partial: some fields could not be read, so absence proves nothing."""
    found = [violation for rule in _RULES for violation in rule(spec)]
    if not partial:
        found += _what_to_run(spec)
    found += [(field, message, "") for field, message in namespaces.violations(spec)]
    return found


def _either(spec: ContainerSpec) -> Iterator[Violation]:
    if spec.command is not None and spec.shell is not None:
        yield "shell", "give either command or shell, not both", ""
    if spec.image is not None and spec.rootfs is not None:
        yield "rootfs", "give either image or rootfs, not both", ""
    if spec.args and spec.shell is not None:
        yield "args", "a shell line takes no arguments", "write them in the line, or use command"


def _root(spec: ContainerSpec) -> Iterator[Violation]:
    if spec.rootfs is not None and not spec.rootfs.startswith("/"):
        yield "rootfs", "must be an absolute path of the host", ""
    elif spec.rootfs is not None and not spec.rootfs.strip("/."):
        yield "rootfs", "cannot be the host's own root directory", "leave it out for the host's file system"
    if spec.security.read_only_rootfs and spec.rootfs is None and spec.image is None:
        yield "security.readOnlyRootfs", "there is no root file system of its own", "give it a rootfs or an image"


def _what_to_run(spec: ContainerSpec) -> Iterator[Violation]:
    executor = spec.executor
    if executor is not None and spec.command is None and spec.shell is None and not executor.tasks:
        yield "executor", "has nothing to run", "give the container a command, or the executor tasks"
    if spec.args and spec.holder:
        yield "args", "there is no command they belong to", ""
    for field in ("tty", "stdin"):
        if spec.holder and getattr(spec, field):
            yield field, "there is no command that could use it", ""
    if spec.init_container and spec.restart_policy == "Always":
        yield "restartPolicy", "an init container runs to its end, once", "OnFailure, its default, or Never"
    if spec.init_container and spec.holder:
        yield "command", "an init container needs something to run", ""
    if spec.class_ == "debug" and spec.debug_parent is None:
        yield "class", "debug needs the container to enter", "parent: shop.web"
    if spec.class_ == "debug" and spec.holder:
        yield "command", "a debug container needs something to run", ""


def _debug(spec: ContainerSpec) -> Iterator[Violation]:
    if spec.debug_parent is None:
        return
    if spec.class_ != "debug":
        yield "parent", "only a container of class debug has a parent field", "nest it in its parent's containers"
    if _LABELS.fullmatch(spec.debug_parent) is None:
        yield "parent", "is not the name of a container", "such as shop or shop.web"
    if spec.class_ == "debug":
        defaults = type(spec).model_fields
        for name, path in _THE_PARENTS.items():
            if getattr(spec, name) != defaults[name].get_default(call_default_factory=True):
                yield path, "a debug container has its parent's", "leave it out"
        if spec.restart_policy != "Never":
            yield "restartPolicy", "a debug container is never restarted", "leave it out"


def _amounts(spec: ContainerSpec) -> Iterator[Violation]:
    yield from amounts.violations(spec.resources, "resources")
    if spec.executor is not None:
        yield from amounts.violations(spec.executor.resources, "executor.resources")


def _executor(spec: ContainerSpec) -> Iterator[Violation]:
    executor = spec.executor
    if executor is None:
        return
    if (executor.command is None) == (executor.shell is None):
        yield "executor", "needs exactly one of command and shell", ""
    if executor.tasks and (spec.command is not None or spec.shell is not None):
        yield "executor.tasks", "take the place of the container's own command", "give either"
    for name, task in executor.tasks.items():
        if task.command is not None and task.shell is not None:
            yield f"executor.tasks.{name}.shell", "give either command or shell, not both", ""
        elif task.command is None and task.shell is None and task.data is None:
            yield f"executor.tasks.{name}", "says nothing to run", "give it command, shell or data"
        if task.args and task.command is None:
            yield f"executor.tasks.{name}.args", "there is no command they belong to", ""
    for part in ("requests", "limits"):
        amounts = getattr(executor.resources, part)
        for name, field in type(amounts).model_fields.items():
            if name not in SUMMED and getattr(amounts, name):
                yield f"executor.resources.{part}.{field.alias or name}", "is the container's alone", "below resources"


def _policies(spec: ContainerSpec) -> Iterator[Violation]:
    if spec.max_completion_time == 0:
        yield "maxCompletionTime", "must be longer than nothing", "leave it out for no limit"
    if spec.backoff.max < spec.backoff.initial:
        yield "backoff.max", "is shorter than the first wait, backoff.initial", ""
    for name, rlimit in spec.rlimits.items():
        if name not in _RLIMITS:
            yield f"rlimits.{name}", "is no limit of Linux", "one of " + ", ".join(sorted(_RLIMITS))
        if isinstance(rlimit.soft, int) and isinstance(rlimit.hard, int) and rlimit.soft > rlimit.hard:
            yield f"rlimits.{name}.soft", "is above the hard limit", ""
        if rlimit.soft == "unlimited" and rlimit.hard != "unlimited":
            yield f"rlimits.{name}.soft", "is above the hard limit", ""
    if spec.docker != DockerOptions() and spec.type != "docker":
        yield "docker", "these options are for a Docker Engine only", "type: docker"


def _network(spec: ContainerSpec) -> Iterator[Violation]:
    if spec.networks and spec.parent is not None:
        yield "networks", "a nested container shares its parent's network", "name the networks at the top level"
    elif spec.networks and spec.namespaces.network != "private":
        yield "networks", "need a network namespace of their own", "namespaces: {network: private}"
    if spec.ports and namespaces.effective(spec)["network"] is not namespaces.Sharing.PRIVATE:
        yield from _ports_of_the_host(spec)
    for index, port in enumerate(spec.ports):
        if not ports.valid(port.host_ip):
            yield f"ports[{index}].hostIP", f"{port.host_ip} is no address", "192.0.2.7, or ::"
        elif any(ports.overlap(port, each) for each in spec.ports[:index] if ports.valid(each.host_ip)):
            yield f"ports[{index}].host", f"{port.host}/{port.protocol} is mapped twice", ""


def _ports_of_the_host(spec: ContainerSpec) -> Iterator[Violation]:
    """Without a network of its own they are what it may listen on."""
    private = "namespaces: {network: private} leads ports of the host into the container"
    if spec.type == "docker":
        yield "ports", "on the host's network every port is the host's already", "namespaces: {network: private}"
        return
    for index, port in enumerate(spec.ports):
        if port.host != port.container:
            yield f"ports[{index}].container", f"is {port.host} itself on the host's network", private
        if port.protocol == "sctp":
            yield f"ports[{index}].protocol", "sctp is not watched on the host's network", private


def ports_of_another(specs: Iterable[ContainerSpec]) -> list[str]:
    """Nested containers that name ports, though the network is their outermost container's own."""
    known = {spec.name: spec for spec in specs}
    outermost = {name: known.get(name.partition(".")[0]) for name in known if "." in name}
    found = [name for name, top in outermost.items() if top is not None and top.namespaces.network == "private"]
    return [name for name in found if known[name].ports]


def _sysctls(spec: ContainerSpec) -> Iterator[Violation]:
    """Only those of a namespace that is the container's own: every other is the host's too, or its parent's."""
    table = namespaces.effective(spec)
    for name in spec.sysctls:
        field = f"sysctls.{name}"
        kind = next((kind for kind, pattern in _OF_NAMESPACES.items() if pattern.fullmatch(name)), None)
        if _SYSCTL.fullmatch(name) is None:
            yield field, "is not the name of a kernel parameter", "such as net.core.somaxconn"
        elif name == "kernel.hostname":
            yield field, "is set by another field", "hostname"
        elif kind is None:
            yield field, "belongs to no namespace of a container: setting it would change the host", ""
        elif table[kind] is not namespaces.Sharing.PRIVATE:
            shared = table[kind].value
            hint = f"namespaces: {{{kind}: private}}" if spec.parent is None or kind == "ipc" else ""
            yield field, f"would change the {shared}'s: the {kind} namespace is shared with it", hint


def _volumes(spec: ContainerSpec) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, volume in enumerate(spec.volumes):
        path = f"volumes[{index}]"
        yield from _volume(volume, path, nested=spec.parent is not None)
        if targets.normal(volume.target) in seen:
            yield f"{path}.target", "is the target of another volume too", ""
        seen.add(targets.normal(volume.target))


def _volume(volume: Volume, path: str, *, nested: bool) -> Iterator[Violation]:
    if volume.type == "tmpfs" and volume.source is not None:
        yield f"{path}.source", "a tmpfs has no source", ""
    if volume.type != "tmpfs" and volume.source is None:
        yield f"{path}.source", f"is needed: {_NEEDS_SOURCE.get(volume.type, 'what to mount')}", ""
    if (refused := targets.refused(volume.target)) is not None:
        yield f"{path}.target", refused, ""
    for field in ("size", "mode"):
        if getattr(volume, field) is not None and volume.type != "tmpfs":
            yield f"{path}.{field}", "is for volumes of type tmpfs", ""
    if volume.pull_policy is not None and volume.type != "image":
        yield f"{path}.pullPolicy", "is for volumes of type image", ""
    if volume.propagation != "private" and volume.type != "hostPath":
        yield f"{path}.propagation", "is for volumes of type hostPath", ""
    if volume.scope is not None and volume.type != "sandboxPath":
        yield f"{path}.scope", "is for volumes of type sandboxPath", ""
    if volume.scope == "parent" and not nested:
        yield f"{path}.scope", "a top-level container has no parent", ""
    source = volume.source or ""
    if volume.type == "hostPath" and source and not source.startswith("/"):
        yield f"{path}.source", "must be an absolute path of the host", ""
    if volume.type == "sandboxPath" and (source.startswith("/") or ".." in source.split("/")):
        yield f"{path}.source", 'must be a path in the sandbox, without ".."', ""
    if volume.type == "volume" and source and _VOLUME_NAME.fullmatch(source) is None:
        yield f"{path}.source", "must be a name: letters, digits, dots, dashes and underscores", "such as data"


def _devices(spec: ContainerSpec) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, device in enumerate(spec.devices):
        target = targets.normal(device.target or device.path)
        if not device.path.startswith("/"):
            yield f"devices[{index}].path", "must be an absolute path of the host", "such as /dev/fuse"
        elif (refused := targets.refused(target, devices=True)) is not None:
            yield f"devices[{index}].target", refused, ""
        if target in seen:
            yield f"devices[{index}].target", "is the target of another device too", ""
        seen.add(target)


def beyond_parent(specs: Iterable[ContainerSpec]) -> list[tuple[str, int, str]]:
    """(container, index of its device, what is wrong) for every device that an enclosing container may not use: the
    kernel asks all of them."""
    known, found = {spec.name: spec for spec in specs}, []
    for spec in known.values():
        for index, device in enumerate(spec.devices):
            for outer in _around(known, spec):
                if missing := _missing(outer, device):
                    found.append((spec.name, index, f"{outer.name} around it has no leave to {missing} it"))
                    break
    return found


def _around(known: dict[str, ContainerSpec], spec: ContainerSpec) -> Iterator[ContainerSpec]:
    above = spec.parent
    while above is not None and above in known:
        yield known[above]
        above = known[above].parent


def _missing(outer: ContainerSpec, device: Device) -> str:
    """What of the device's permissions that container has not; every node may be made by all."""
    if outer.security.privileged or device.path in _EVERYBODYS:
        return ""
    given = {letter for each in outer.devices if each.path == device.path for letter in each.permissions}
    wanted = {"r": "read", "w": "write"}
    return " or ".join(wanted[letter] for letter in device.permissions if letter in wanted and letter not in given)


_EVERYBODYS = frozenset(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))


def _uris(spec: ContainerSpec) -> Iterator[Violation]:
    for number, one in enumerate(spec.uris):
        if why := uris.violation(one.uri, named=one.destination is not None):
            yield f"uris[{number}].uri", why, ""


_RULES: tuple[Callable[[ContainerSpec], Iterable[Violation]], ...] = (
    _either,
    _root,
    _debug,
    _amounts,
    _executor,
    _policies,
    _network,
    _volumes,
    _sysctls,
    _devices,
    _uris,
)


def cycles(specs: Iterable[ContainerSpec]) -> list[tuple[str, int, tuple[str, ...]]]:
    """(container, index of its dependency, the names on the way round) for every dependency that
    leads back to where it came from. A nested container depends on its parent as well."""
    known = {spec.name: spec for spec in specs}
    found = []
    for spec in known.values():
        for index, dependency in enumerate(spec.depends_on):
            way = _way(known, dependency.container, spec.name)
            ancestor = spec.name.startswith(dependency.container + ".")
            if way is not None:
                found.append((spec.name, index, (spec.name, *way)))
            elif ancestor and dependency.condition == "Completed":
                found.append((spec.name, index, (spec.name, dependency.container, spec.name)))
    return found


def _way(known: dict[str, ContainerSpec], start: str, goal: str) -> tuple[str, ...] | None:
    """The first way from start to goal along dependencies and parents, goal included."""
    stack: list[tuple[str, tuple[str, ...]]] = [(start, (start,))]
    seen = set()
    while stack:
        name, way = stack.pop()
        if name == goal:
            return way
        if name in seen or name not in known:
            continue
        seen.add(name)
        spec = known[name]
        onwards = [dependency.container for dependency in spec.depends_on]
        if spec.parent is not None:
            onwards.append(spec.parent)
        stack += [(other, (*way, other)) for other in onwards]
    return None
