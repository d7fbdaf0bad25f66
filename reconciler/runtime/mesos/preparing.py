"""All that blocks before the fork of a native container, in one thread: a hop for each step costs more than most do.

    PROVISIONING  checkpoint ▸ root file system, account ▸ sandbox
    PREPARING     cgroups ▸ each isolator's prepare, in order ▸ the launch plan ▸ every descriptor that the fork needs

Invariant: a launch that was given up goes no further than the step it is in, so that a thread that was stuck leaves
no more behind, when it comes free, than that one step made.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.errors import Retryable, Terminal
from reconciler.runtime import environment
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Isolator, LaunchInfo, merge
from reconciler.runtime.kernel import proc, rootpaths
from reconciler.runtime.launcher.launcher import memory_files, open_files
from reconciler.runtime.mesos import launch_plan
from reconciler.runtime.mesos.checkpoint import EXIT, REAPED
from reconciler.runtime.mesos.container import Container, Say, Workshop
from reconciler.runtime.mesos.output import open_streams
from reconciler.runtime.provisioner import rootfs
from reconciler.states import ContainerState, Reason


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the isolators want, merged; the fork's descriptors by role, the caller's to close; and who has something to
    do once the child is there."""

    info: LaunchInfo
    fds: dict[str, int]
    isolating: tuple[Isolator, ...]


def prepare(
    shop: Workshop, container: Container, config: ContainerConfig, parent: Container | None, say: Say
) -> Prepared:
    """Blocks. Notes cgroups and plan in the container's run; `say` is told what comes next."""
    job = _Job(shop, container, parent, say)
    job.next_step("writing the checkpoint")
    container.checkpoint()
    if parent is not None and config.spec.class_ == "debug":
        info = _plan_inside(job, config, parent)
    else:
        info = _plan(job, config)
    job.next_step("opening files")
    return Prepared(info, _open(shop, container, config, info), tuple(job.isolating))


@dataclass(slots=True)
class _Job:
    shop: Workshop
    container: Container
    parent: Container | None
    say: Say
    isolating: list[Isolator] = field(default_factory=list)

    def next_step(self, what: str) -> None:
        still_wanted(self.container)
        self.say(what)


def _plan(job: _Job, config: ContainerConfig) -> LaunchInfo:
    shop, container, parent = job.shop, job.container, job.parent
    privileged = os.geteuid() == 0
    job.next_step("provisioning")
    if config.spec.rootfs is not None:
        config = replace(config, rootfs=rootfs.locate(config.name, config.spec.rootfs))
    account = launch_plan.identity(config)
    if privileged:
        config = replace(config, owner=(account.uid, account.gid))
    job.next_step("making the sandbox")
    _make_sandbox(config, account if privileged else None, private=bool(shop.launcher.gives))
    container.enter(ContainerState.PREPARING)
    inherited = _entered(parent.run.pid) if parent is not None else frozenset()
    info = _isolate(job, config, shop.isolators, inherited)
    job.next_step("reading the environment")
    given = environment.gather(config)
    container.note(plan=launch_plan.build(config, info, given, account, privileged=privileged))
    return replace(info, contents={**info.contents, **given.contents})


def _plan_inside(job: _Job, config: ContainerConfig, parent: Container) -> LaunchInfo:
    """Of class debug: a further process of its parent's, in a cgroup of its own below the parent's. What it sees is
    its parent's; only the amounts it may use are its own."""
    container = job.container
    container.note(sandbox=parent.run.sandbox)
    container.enter(ContainerState.PREPARING)
    _isolate(job, config, [each for each in job.shop.isolators if each.controllers])
    job.next_step("reading the environment")
    differ, given = _entered(parent.run.pid), environment.gather(config)
    container.note(plan=launch_plan.build_inside(config, given, parent.run.plan, differ))
    return LaunchInfo(join=differ, contents=given.contents)


def _isolate(
    job: _Job, config: ContainerConfig, isolators: Sequence[Isolator], inherited: frozenset[str] = frozenset()
) -> LaunchInfo:
    job.next_step("making the cgroups")
    job.container.note(cgroups=dict(job.shop.launcher.create(job.container.name)))
    context = replace(job.shop.context(job.container), inherited=inherited)
    infos = []
    for isolator in isolators:
        job.next_step(f"prepare: {isolator.name}")
        info = isolator.prepare(config, context)
        if info is None or info.isolates:
            job.isolating.append(isolator)
        infos.append(info)
    return merge(infos)


def _open(shop: Workshop, container: Container, config: ContainerConfig, info: LaunchInfo) -> dict[str, int]:
    with contextlib.ExitStack() as stack:
        fds: dict[str, int] = {}

        def take(opened: dict[str, int]) -> None:
            fds.update(opened)
            for fd in opened.values():
                stack.callback(os.close, fd)

        take(open_streams(config.logs))
        take(open_files(container.run.plan))
        take(memory_files(info.contents))
        for role, file in (("exit", EXIT), ("reaped", REAPED)):
            take({role: shop.checkpoints.open_end(container.name, file, fresh=True)})
        take(shop.launcher.places(container.name))
        for name, opened in info.entered.items():
            take({launch_plan.THERE + name: opened()})
        still_wanted(container)
        stack.pop_all()
        return fds


def still_wanted(container: Container) -> None:
    if container.unwanted:
        raise Retryable(f"{container.name}: was destroyed while it was launched", Reason.DESTROYED)


def _entered(pid: int | None) -> frozenset[str]:
    """The namespaces of that process that are not ours, and so not the keeper's."""
    ours = proc.namespaces("self")
    return frozenset(name for name, inode in proc.namespaces(pid or "self").items() if ours.get(name) != inode)


def _make_sandbox(config: ContainerConfig, owner: launch_plan.Identity | None, *, private: bool) -> None:
    """private: nobody else of this host may reach it, lest a set-user-id program made inside is of use outside."""
    top, beneath = config.sandbox_place
    try:
        Path(top).mkdir(mode=0o755, parents=True, exist_ok=True)
        if private:
            config.logs.parent.mkdir(exist_ok=True)
            config.logs.parent.chmod(0o700)
        with rootpaths.opened(top) as root, rootpaths.made(root, beneath or ".", links=False) as sandbox:
            if owner is not None:
                os.fchown(sandbox, owner.uid, owner.gid)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST):
            raise
        raise Terminal(f"{config.name}: its sandbox cannot be made: {error}") from error
