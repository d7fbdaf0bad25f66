"""The Containerizer contract and its value types.

A containerizer owns the containers it launched: it brings them up, says what became of them and
takes them away. It decides nothing about whether a container should run; the loop does.

    launch ──▶ LAUNCHED │ ALREADY_LAUNCHED │ NOT_SUPPORTED      (or raises ReconcilerError)
                  │
                  ▼  status(name)
    PROVISIONING ▸ PREPARING ▸ ISOLATING ▸ FETCHING ▸ RUNNING ──payload ends──▶ termination set,
                  │                                      │                      state None
                  └──────────── destroy(name) ───────────┴──▶ DESTROYING ──▶ forgotten

After Mesos's `containerizer.hpp`, with two differences: `destroy` can be repeated at every stage
until it succeeds, and a termination stays readable until `destroy` forgets the container.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reconciler.states import ContainerState, Reason

if TYPE_CHECKING:  # reading verbs import this module and must not pay for pydantic
    from reconciler.runtime.provisioner.layers import Bound, Overlay
    from reconciler.spec.model import ContainerSpec, ResourceAmounts
    from reconciler.spec.policies import HealthCheck


Usage = Mapping[str, int | float | None]
"""Figures by name; None for what is unlimited or cannot be had here."""

OF_INTERFACE = "interface."
"""Begins the name of a figure of one network interface: interface.eth0.received_bytes."""

OF_DISK = "io."
"""The same of one block device, by its number: io.254:0.read_bytes."""

OF_PRESSURE = "pressure."
"""Of cpu, memory or io: pressure.io.full_seconds."""

OF_HUGE_PAGES = "hugepages."
"""Of one page size: hugepages.2Mi.bytes."""

OF_MISC = "misc."
"""Of one resource that the host has few of: misc.sev.used."""


def of_each(usage: Usage, prefix: str) -> dict[str, dict[str, int | float | None]]:
    """The figures of several things of a kind, such as interfaces: name of the thing → figure → value."""
    found: dict[str, dict[str, int | float | None]] = {}
    for name, value in usage.items():
        if name.startswith(prefix):
            thing, _, figure = name.removeprefix(prefix).rpartition(".")
            found.setdefault(thing, {})[figure] = value
    return found


LIMITED = frozenset(
    {
        Reason.DISK_LIMIT_EXCEEDED,
        Reason.PORT_NOT_GIVEN,
        Reason.MOUNT_LOST,
        Reason.CGROUP_LOST,
        Reason.NETWORK_LOST,
        Reason.LIMIT_EXCEEDED,
    }
)
"""Runs that an isolator had ended for what they did."""

OF_EXECUTORS = frozenset({Reason.TASK_FAILED, Reason.EXECUTOR_TERMINATED})
OF_EXECUTORS |= {Reason.EXECUTOR_REGISTRATION_TIMEOUT, Reason.EXECUTOR_REREGISTRATION_TIMEOUT}

ENDED_AS_FAILED = frozenset({Reason.DEADLINE_EXCEEDED, Reason.UNHEALTHY}) | LIMITED | OF_EXECUTORS
"""Runs that had gone wrong, or that we ended because they had: failures, however they took it."""


class LaunchResult(Enum):
    LAUNCHED = "launched"
    ALREADY_LAUNCHED = "already launched"
    NOT_SUPPORTED = "not supported"


def sandbox_place(sandbox: Path, depth: int) -> tuple[str, str]:
    """(the top-level container's sandbox, the way from there to this one's, "" at the top level)."""
    labels = 2 * depth  # containers/<label> for each level
    top = sandbox.parents[labels - 1] if labels else sandbox
    return os.path.realpath(top), "/".join(sandbox.parts[-labels:]) if labels else ""


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What to launch. `spec.name` is the container's identity (dotted when nested).

    sandbox:  the working directory on the host; a nested one lies inside its parent's
    logs:     directory of `stdout` and `stderr`, out of the container's reach
    digest:   of the spec, kept with the container so that an observer knows what runs
    rootfs:   the directory that becomes its root, once provisioned; None: it sees the host's file system
    tree:     what its root is made of instead, which is then mounted nowhere but in the container
    images:   number of a volume → the overlay or the directory that its image is laid out as
    image_volumes: target → the directory of the container's own that its image wants there
    health_checks: what its image says to check, as a record has it
    owner:    (uid, gid) it runs as, once provisioned; None: as whoever we are
    base:     the directory of its spec file, where the paths it names begin
    env:      variables that hooks add; the spec's own come before them
    """

    spec: ContainerSpec
    digest: str
    sandbox: Path
    logs: Path
    rootfs: Path | None = None
    tree: Overlay | Bound | None = None
    images: Mapping[int, Overlay | Bound | Path] = field(default_factory=dict)
    image_volumes: Mapping[str, Path] = field(default_factory=dict)
    health_checks: tuple[Mapping[str, Any], ...] = ()
    owner: tuple[int, int] | None = None
    base: Path = Path("/")
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def sandbox_place(self) -> tuple[str, str]:
        """(the top-level container's sandbox, the way from there to this one's, "" at the top level). Containers can
        change the second part, so it is only ever resolved beneath the first."""
        return sandbox_place(self.sandbox, self.spec.depth)

    @property
    def sandbox_path(self) -> str:
        """Where the sandbox is on the host, as text to show: no link in its second part is followed."""
        top, beneath = self.sandbox_place
        return f"{top}/{beneath}" if beneath else top


@dataclass(frozen=True, slots=True)
class Termination:
    """How a run ended. `code` for an exit, `signal` for a death by signal, both None when the
    status could not be had (reason ExitStatusLost). `at`: seconds since the epoch."""

    code: int | None
    signal: int | None
    reason: Reason
    at: float
    message: str = ""
    oom_killed: bool = False

    @property
    def success(self) -> bool:
        return self.code == 0 and self.signal is None and self.reason not in ENDED_AS_FAILED


@dataclass(frozen=True, slots=True)
class Finding:
    """What one health check found. `seen`: a few words for people: "500", "connection refused"."""

    healthy: bool
    seen: str


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """One container as its containerizer knows it.

    state:       None once the payload has ended
    pid:         host pid of the container's first process (init or payload), None when none
    namespaces:  kernel name as in DESIGN's table (pid, network, uts, ipc, mount, cgroup, user) → inode
    cgroups:     hierarchy ("unified", "memory", ...) → directory
    message:     what it is doing or stuck at, one sentence, may be empty
    limitations: isolator → what it has to say of a container that goes on, a sentence
    health_checks: what its image says to check, as a record has it, where its spec says nothing
    begun:       False while its main process runs, but not yet all that it is there for
    """

    name: str
    containerizer: str
    state: ContainerState | None
    digest: str
    pid: int | None = None
    started_at: float | None = None
    termination: Termination | None = None
    namespaces: Mapping[str, int] = field(default_factory=dict)
    cgroups: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    limitations: Mapping[str, str] = field(default_factory=dict)
    health_checks: tuple[Mapping[str, Any], ...] = ()
    begun: bool = True

    @property
    def running(self) -> bool:
        return self.state is ContainerState.RUNNING


class Containerizer(Protocol):
    """Every method may be called at any time and for any name; none blocks the event loop."""

    @property
    def name(self) -> str: ...

    async def recover(self) -> None:
        """Rebuild what is known from checkpoints and the kernel; destroy orphans of our own.
        One unreadable container never fails the others."""
        ...

    def refuses(self, spec: ContainerSpec) -> str | None:
        """Why this host cannot run the spec as written, known without trying: asked before what runs is ended for it.
        None: nothing stands against it, or it is no spec for this containerizer."""
        ...

    async def provide(self, spec: ContainerSpec, say: Callable[[str], None]) -> None:
        """Have the image at hand, by its pull policy, and see that host paths and user are there; not of another. Asked
        before what runs is ended for it; may take long, and is given up when cancelled. say: told of progress.
        Raises Retryable (reason ImageUnavailable), or Terminal for a reference that names no image."""
        ...

    async def launch(self, config: ContainerConfig) -> LaunchResult:
        """Its image, if it has one, is at hand. Returns when the payload has been exec'ed. Raises LaunchFailed (the run
        is then kept as a termination), Unsupported, Terminal or Retryable; a partial launch has been undone or is
        left for `destroy`, which the caller calls before any retry."""
        ...

    async def update(self, name: str, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        """Change resources in place. Raises Retryable with both figures when the kernel refuses."""
        ...

    async def usage(self, name: str) -> Usage | None:
        """Of it and all that is nested in it; None when it does not run. Raises Retryable when that cannot be told."""
        ...

    async def status(self, name: str) -> ContainerStatus | None:
        """None: certainly no such container. Raises Retryable when that cannot be told."""
        ...

    async def wait(self, name: str) -> Termination | None:
        """Until the run has ended; None for an unknown name."""
        ...

    async def check(self, name: str, check: HealthCheck) -> Finding:
        """Make one health check from inside the container, within its timeout; nothing that it starts is left.
        Raises Retryable, or OSError, when it could not be made, which says nothing about the container's health."""
        ...

    async def kill(self, name: str, signal: int) -> bool:
        """Signal the payload, with any signal; False when there is none."""
        ...

    async def destroy(self, name: str, *, grace: float | None = None) -> Termination | None:
        """End it and everything nested in it, and leave nothing: kill signal, grace (seconds;
        None: as its spec says), SIGKILL, clean-up, forget. Idempotent, repeatable after any
        failure (Retryable names the stage that is stuck)."""
        ...

    def containers(self) -> Sequence[str]:
        """Every name it knows, nested included, ended ones included."""
        ...

    def notes(self) -> Mapping[str, str]:
        """What is amiss with it as a whole: part → a sentence, for `status`."""
        ...

    async def close(self) -> None:
        """Let go of connections and tasks; containers stay."""
        ...


class Runtime(Containerizer, Protocol):
    """What the loop drives: containerizers, and the executors in their containers."""

    async def assign(self, name: str, spec: ContainerSpec) -> None:
        """Have its executor, if it has one, run the tasks that the spec has now; those that stay the same go on."""
        ...
