"""The Isolator contract: one resource or view of a container, kept apart from the others.

    support, refuses
    prepare ─▶ LaunchInfo ─▶ (fork, child blocked) ─▶ isolate(pid) ─▶ (release) … update, usage, watch …
    limitation ─▶ cleanup

Prepare runs in a fixed order, isolate in any, cleanup in reverse; cleanup is idempotent and runs after a failed
launch too. Every method blocks and may be called from any thread; the containerizer gives each a timeout. What the
isolators say about one launch is merged, and a conflict is an error of the spec. An isolator keeps nothing about a
container in its own memory, which a restart of the agent would empty: what it must know later it writes into
`Context.runtime_dir`, or reads from the kernel. After Mesos's `Isolator`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from reconciler.errors import Terminal
from reconciler.runtime.containerizer import Usage
from reconciler.runtime.isolators.options import Options
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.spec.model import ContainerSpec, ResourceAmounts


@dataclass(frozen=True, slots=True)
class Context:
    """The container an isolator is asked about; all of it is known again after a restart of the agent.

    cgroups:      hierarchy ("unified", "memory", ...) → its own cgroup directory, where limits are written
    runtime_dir:  RUNTIME/containers/<name>, for what must not outlive a reboot
    first:        host pids of its first process and of those of what is nested in it, as far as they were forked
    inherited:    known to `prepare` only: the namespaces of its parent that are not the host's
    sandbox:      (the top-level container's, the way from there to its own), as in ContainerConfig; None: its parent's
    """

    name: str
    cgroups: Mapping[str, str]
    runtime_dir: Path
    first: tuple[int, ...] = ()
    inherited: frozenset[str] = frozenset()
    sandbox: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """What is mounted at the target of one of the spec's volumes.

    what:   the descriptor that is a detached mount once the child has carried out `take`
    first:  `take` needs the mounts as the host shares them
    file:   it is no directory
    cover:  a file that takes the place of what has its name; left out where nothing has and nothing can be made
    """

    what: str
    take: tuple[Mapping[str, object], ...]
    first: bool = False
    file: bool = False
    cover: bool = False


@dataclass(frozen=True, slots=True)
class LaunchInfo:
    """What an isolator wants of the launch.

    namespaces:  cloned with the child
    join:        entered from the parent container instead
    entered:     of the namespaces, those that are there by the fork: name → what opens a descriptor
    beside:      done in a thread while the child is forked: what needs no process, and has to be before the release
    isolates:    whether this isolator's `isolate` has something to do for the container
    steps:       of the launch plan, interpreted by the child in this order, as plain JSON-able dicts
    env:         added to the payload's environment
    capabilities:       all that its processes can ever have; None: not restricted
    no_new_privileges:  no exec of theirs gives privileges
    files:       role → path: what the payload's steps read, opened for each process that is started inside
    user:        of its mapped user namespace, for the keeper: {first, size, detach} or {of, enter, detach}
    payload:     steps of the payload alone, while it is still who it was
    volumes:     number in the spec → what is mounted there; None: it is where it belongs already
    nodes:       target in the container → the device, or file of ours, that is mounted there
    contents:    role → what the child reads from a descriptor of that name: in no plan, record or message
    """

    namespaces: frozenset[str] = frozenset()
    join: frozenset[str] = frozenset()
    steps: tuple[Mapping[str, object], ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    capabilities: frozenset[str] | None = None
    no_new_privileges: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    user: Mapping[str, object] | None = None
    payload: tuple[Mapping[str, object], ...] = ()
    volumes: Mapping[int, Mount | None] = field(default_factory=dict)
    nodes: Mapping[str, Mount] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    entered: Mapping[str, Callable[[], int]] = field(default_factory=dict)
    beside: tuple[Callable[[], object], ...] = ()
    isolates: bool = True


@dataclass(frozen=True, slots=True)
class Limitation:
    """The container ran into a limit: why its run ended, or is to end, one sentence with the figures. ends: else it
    goes on, and the sentence is shown for as long as it is true."""

    reason: Reason
    message: str
    ends: bool = True


@dataclass(frozen=True, slots=True)
class Host:
    """What isolators of other packages are made with: the agent's directories, and the launcher, linux or posix."""

    root: Path
    runtime_dir: Path
    launcher: str


class Level(StrEnum):
    """How far an isolator works on this host."""

    WORKS = "works"
    PARTLY = "partly"
    NOT_HERE = "not here"


@dataclass(frozen=True, slots=True)
class Support:
    """why: what of it does not work and what would be needed; may be empty for one that works."""

    level: Level = Level.WORKS
    why: str = ""


class Isolator(Protocol):
    """name: as in `--isolation`. controllers: cgroup controllers that it writes to, as v1 calls them. options: what a
    spec may say to it under `isolators`."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> Options: ...

    @property
    def controllers(self) -> frozenset[str]: ...

    def recover(self, containers: Mapping[str, Path]) -> None:
        """A new agent, before it does anything else: the containers there still is something of, with their runtime
        directories; what is there of any other goes. Each that has ended gets its `cleanup`."""
        ...

    def support(self) -> Support:
        """On this host, whatever a spec asks for; `doctor` prints it."""
        ...

    def foresee(self, spec: ContainerSpec) -> None:
        """Raise what `prepare` would for what the host lacks now, as far as the spec tells: asked before what runs is
        ended for it. Blocks."""
        ...

    def refuses(self, spec: ContainerSpec) -> list[str]:
        """A sentence, beginning with the field, for each thing of its own that the spec asks for and cannot be had
        here. Known without trying, and asked before what runs is ended for the spec."""
        ...

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        """Before the fork; the cgroups exist and are empty."""
        ...

    def isolate(self, context: Context, pid: int) -> None:
        """The child exists, blocked, in its cgroups and in the namespaces that were made for it."""
        ...

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        """Make these the amounts in force (`prepare` does so with the spec's), an absent one meaning unlimited. Raises
        Retryable with both figures when present usage is in the way, the old amount then being kept."""
        ...

    def usage(self, context: Context) -> Usage:
        """Of the container and all that is nested in it."""
        ...

    def every(self, context: Context) -> float | None:
        """Seconds between one `watch` and the next; None: there is nothing to watch in this container. Asked when it
        runs, and after each `update`."""
        ...

    def watch(self, context: Context) -> Limitation | None:
        """Asked again and again while it runs, in a thread of its own."""
        ...

    def limitation(self, context: Context) -> Limitation | None:
        """Asked once the run has ended, before the cgroups go."""
        ...

    def cleanup(self, context: Context) -> None:
        """Undo `prepare` and `isolate`, however far they got."""
        ...


class PassiveIsolator:
    """An isolator that does nothing: what the real ones leave out."""

    name = "passive"
    options: Options = MappingProxyType({})
    controllers: frozenset[str] = frozenset()

    def recover(self, containers: Mapping[str, Path]) -> None:
        return None

    def support(self) -> Support:
        return Support()

    def foresee(self, spec: ContainerSpec) -> None:
        return None

    def refuses(self, spec: ContainerSpec) -> list[str]:
        return []

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        return None

    def isolate(self, context: Context, pid: int) -> None:
        return None

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        return None

    def usage(self, context: Context) -> Usage:
        return {}

    def every(self, context: Context) -> float | None:
        return None

    def watch(self, context: Context) -> Limitation | None:
        return None

    def limitation(self, context: Context) -> Limitation | None:
        return None

    def cleanup(self, context: Context) -> None:
        return None


def merge(infos: Iterable[LaunchInfo | None]) -> LaunchInfo:
    """One launch from what each isolator wants, steps in the isolators' order. Raises Terminal when two want different
    values of one variable, or one clones what another enters."""
    namespaces: frozenset[str] = frozenset()
    join: frozenset[str] = frozenset()
    steps: tuple[Mapping[str, object], ...] = ()
    payload: tuple[Mapping[str, object], ...] = ()
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    volumes: dict[int, Mount | None] = {}
    nodes: dict[str, Mount] = {}
    contents: dict[str, bytes] = {}
    entered: dict[str, Callable[[], int]] = {}
    beside: tuple[Callable[[], object], ...] = ()
    capabilities: frozenset[str] | None = None
    user: Mapping[str, object] | None = None
    no_new_privileges = False
    for info in infos:
        if info is None:
            continue
        user = info.user or user
        for key, value in info.env.items():
            if env.setdefault(key, value) != value:
                raise Terminal(f"isolators disagree on the environment variable {key}: {env[key]!r} and {value!r}")
        for role, path in info.files.items():
            if files.setdefault(role, path) != path:
                raise Terminal(f"isolators disagree on the file {role}: {files[role]!r} and {path!r}")
        if info.capabilities is not None:
            capabilities = info.capabilities if capabilities is None else capabilities & info.capabilities
        no_new_privileges = no_new_privileges or info.no_new_privileges
        namespaces, join, steps = namespaces | info.namespaces, join | info.join, steps + info.steps
        payload += info.payload
        volumes.update(info.volumes)
        nodes.update(info.nodes)
        contents.update(info.contents)
        entered.update(info.entered)
        beside += info.beside
    if both := namespaces & join:
        raise Terminal(f"isolators disagree on the namespaces {', '.join(sorted(both))}: made anew and the parent's")
    return LaunchInfo(
        namespaces - entered.keys(),
        join,
        steps,
        env,
        capabilities,
        no_new_privileges,
        files,
        user,
        payload,
        volumes,
        nodes,
        contents,
        entered,
        beside,
    )
