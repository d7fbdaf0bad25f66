"""The launch pipeline of a native container, in Mesos's order (containerizer.cpp), undone when a step fails.

    PROVISIONING  checkpoint, root file system, account, sandbox
    PREPARING     cgroups ▸ each isolator's prepare, in order ▸ the launch plan ▸ fork, child blocked ▸ checkpoint
    ISOLATING     each isolator's isolate with the pid
    FETCHING      (what the spec wants in the sandbox)
    RUNNING       release ▸ the child carries its plan out and execs ▸ checkpoint

The identity of the process is on disk before it is released, so a later agent knows it whatever happens.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from reconciler.errors import LaunchFailed, ParentEnded, Retryable, Terminal
from reconciler.runtime.containerizer import ContainerConfig, Termination
from reconciler.runtime.isolators.isolator import Isolator, LaunchInfo, merge
from reconciler.runtime.kernel import proc, rootpaths
from reconciler.runtime.launcher.child import NOT_EXECUTABLE, NOT_FOUND
from reconciler.runtime.launcher.connection import KeeperError
from reconciler.runtime.launcher.launcher import Fork, closing_fds, open_files
from reconciler.runtime.mesos import launch_plan
from reconciler.runtime.mesos.checkpoint import EXIT, REAPED, Run
from reconciler.runtime.mesos.container import Container, Workshop
from reconciler.runtime.mesos.fit import shared_notice
from reconciler.runtime.mesos.output import open_streams
from reconciler.runtime.provisioner import rootfs
from reconciler.states import ContainerState, Reason


class Ending(Protocol):
    """What a launch needs of `ending`: to have the end noticed, and to take away what failed."""

    def watch(self, container: Container) -> None: ...

    def parent_is_gone(self, container: Container) -> bool: ...

    async def clean_up(self, container: Container) -> None: ...

    async def give_up(self, container: Container) -> None: ...


class Launching:
    def __init__(self, workshop: Workshop, ending: Ending, boot: str) -> None:
        self._shop = workshop
        self._ending = ending
        self._boot = boot

    async def launch(self, config: ContainerConfig, parent: Container | None) -> None:
        """Raises LaunchFailed or ParentEnded (kept as a run), Terminal or Retryable (nothing is left)."""
        container = self._new(config)
        self._shop.all[config.name] = container
        async with container.lock:
            try:
                await self._carry_out(container, config, parent)
            except KeeperError as error:
                raise await self._failed(container, error) from error
            except OSError as error:  # TimeoutError among them
                stage = container.run.state
                await self._ending.give_up(container)
                raise Retryable(f"{config.name}: launch failed while {stage}: {error}") from error
            except BaseException:
                await self._ending.give_up(container)
                raise

    def _new(self, config: ContainerConfig) -> Container:
        spec, launcher = config.spec, self._shop.launcher
        run = Run(
            name=config.name,
            run=secrets.token_hex(8),
            boot=self._boot,
            digest=config.digest,
            launcher=launcher.name,
            state=ContainerState.PROVISIONING,
            kill_signal="SIGTERM" if spec.holder else spec.kill_policy.signal,
            grace=spec.kill_policy.grace_period,
            sandbox=config.sandbox_path,
            logs=str(config.logs),
            log_size=spec.logging.max_size,
            log_files=spec.logging.max_files,
            message=shared_notice(spec, launcher.name, launcher.gives),
        )
        return Container(run, self._shop.checkpoints)

    async def _carry_out(self, container: Container, config: ContainerConfig, parent: Container | None) -> None:
        shop, privileged = self._shop, os.geteuid() == 0
        container.checkpoint()
        if parent is not None and config.spec.class_ == "debug":
            info = await self._plan_inside(container, config, parent)
        else:
            config, account = await shop.stage("provisioning", _provision, config)
            owner = account if privileged else None
            await shop.stage("making the sandbox", _make_sandbox, config, owner, bool(shop.launcher.gives))

            container.enter(ContainerState.PREPARING)
            info = await self._prepare(container, config)
            container.note(plan=launch_plan.build(config, info, account, privileged=privileged))
        _still_wanted(container)
        await self._fork(container, config, info, parent)

        container.enter(ContainerState.ISOLATING)
        context, pid = shop.context(container), container.run.pid or 0
        await shop.each("isolate", lambda isolator: isolator.isolate(context, pid))

        container.enter(ContainerState.FETCHING)
        _still_wanted(container)
        await shop.launcher.release(container.name, container.run.run)
        if container.run.termination is not None:
            # it ended, and was cleaned up after, before this task had its turn: that must not be undone
            container.note(started_at=container.run.termination.at)
            return
        # only now are the namespaces in place that the child enters or unshares by itself
        container.checkpoint(
            state=ContainerState.RUNNING, started_at=shop.clock(), namespaces=_namespaces(container.run.pid)
        )

    async def _prepare(self, container: Container, config: ContainerConfig) -> LaunchInfo:
        shop, debug = self._shop, config.spec.class_ == "debug"
        container.note(cgroups=dict(await shop.launcher.create(container.name)))
        context = shop.context(container)

        def prepare(isolator: Isolator) -> LaunchInfo | None:
            # what a debug container sees is its parent's; only the amounts it may use are its own
            return isolator.prepare(config, context) if isolator.controllers or not debug else None

        return merge(await shop.each("prepare", prepare))

    async def _plan_inside(self, container: Container, config: ContainerConfig, parent: Container) -> LaunchInfo:
        """Of class debug: a further process of its parent's, in a cgroup of its own below the parent's."""
        container.note(sandbox=parent.run.sandbox)
        container.enter(ContainerState.PREPARING)
        await self._prepare(container, config)
        differ = _entered(parent.run.pid)
        container.note(plan=launch_plan.build_inside(config, parent.run.plan, differ))
        return LaunchInfo(join=differ)

    async def _fork(
        self, container: Container, config: ContainerConfig, info: LaunchInfo, parent: Container | None
    ) -> None:
        shop, name = self._shop, container.name
        with contextlib.ExitStack() as stack:
            streams = stack.enter_context(closing_fds(await shop.stage("opening the logs", open_streams, config.logs)))
            files = stack.enter_context(closing_fds(open_files(container.run.plan)))
            ends = {"exit": shop.checkpoints.open_end(name, EXIT, fresh=True)}
            stack.enter_context(closing_fds(ends))
            ends["reaped"] = shop.checkpoints.open_end(name, REAPED, fresh=True)
            nested = parent is not None and bool(shop.launcher.gives)
            forked = await shop.launcher.fork(
                Fork(
                    name=name,
                    run=container.run.run,
                    plan=container.run.plan,
                    clone=tuple(sorted(info.namespaces & shop.launcher.gives)),
                    fds={**streams, **files, **ends},
                    parent=parent.pidfd if parent is not None and nested else None,
                    # shared or private, a nested pid namespace lies in its parent's
                    enter_pid=nested and ("pid" in info.join or "pid" in info.namespaces),
                )
            )
        container.pidfd = forked.pidfd
        container.checkpoint(pid=forked.pid, start=forked.start)
        self._ending.watch(container)
        if not container.run.plan.get("init", True) and shop.launcher.gives:
            await shop.stage("pinning the pidfd", shop.pins.pin, name, forked.pidfd)

    async def _failed(self, container: Container, error: KeeperError) -> LaunchFailed | ParentEnded:
        """The child did not get as far as its payload. That is a run, with a termination to show for it."""
        if self._ending.parent_is_gone(container):  # whatever the kernel then said of the namespaces to enter
            message = f"its parent ended while it was launched ({error.sentence()})"
            ended = Termination(None, None, Reason.PARENT_ENDED, self._shop.clock(), message)
            container.checkpoint(termination=ended, state=ContainerState.DESTROYING)
            await self._ending.clean_up(container)
            return ParentEnded(f"{container.name}: {message}")
        not_found = error.stage == "exec" and error.errno in (errno.ENOENT, errno.ENOTDIR)
        code = NOT_FOUND if not_found else NOT_EXECUTABLE
        message = f"launch failed at {error.sentence()}"
        ended = Termination(code, None, Reason.LAUNCH_FAILED, self._shop.clock(), message)
        container.checkpoint(termination=ended, state=ContainerState.DESTROYING)
        await self._ending.clean_up(container)
        return LaunchFailed(message, code)


def _still_wanted(container: Container) -> None:
    if container.unwanted:
        raise Retryable(f"{container.name}: was destroyed while it was launched", Reason.DESTROYED)


def _entered(pid: int | None) -> frozenset[str]:
    """The namespaces of that process that are not ours, and so not the keeper's."""
    ours = proc.namespaces("self")
    return frozenset(name for name, inode in proc.namespaces(pid or "self").items() if ours.get(name) != inode)


def _namespaces(pid: int | None) -> dict[str, int]:
    """Of the process; where they cannot be read (another user's process, no root) it shares ours."""
    found = proc.namespaces(pid) if pid is not None else {}
    return found or proc.namespaces("self")


def _provision(config: ContainerConfig) -> tuple[ContainerConfig, launch_plan.Identity]:
    """The root file system, and who the container is in it."""
    if config.spec.rootfs is not None:
        config = replace(config, rootfs=rootfs.locate(config.name, config.spec.rootfs))
    return config, launch_plan.identity(config)


def _make_sandbox(config: ContainerConfig, owner: launch_plan.Identity | None, private: bool) -> None:
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
