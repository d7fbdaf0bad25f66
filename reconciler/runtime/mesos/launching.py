"""The launch pipeline of a native container, in Mesos's order (containerizer.cpp), undone when a step fails.

    PROVISIONING  its root from its image ▸ checkpoint, root file system, account, sandbox              (preparing.py)
    PREPARING     cgroups ▸ each isolator's prepare, in order ▸ the launch plan ▸ fork, child blocked ▸ checkpoint
                                                                                └ beside it, what needs no process
    ISOLATING     each isolator's isolate with the pid
    FETCHING      what the spec wants in the sandbox ▸ hooks; takes as long as it takes, and ends when nobody wants it
    RUNNING       release ▸ the child carries its plan out and execs ▸ checkpoint

The identity of the process is on disk before it is released, so a later agent knows it whatever happens.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
from typing import Protocol

from reconciler.errors import LaunchFailed, ParentEnded, Retryable
from reconciler.runtime.containerizer import ContainerConfig, Termination
from reconciler.runtime.fetcher.fetcher import Fetcher
from reconciler.runtime.hooks.hooks import Hooks
from reconciler.runtime.kernel import proc
from reconciler.runtime.launcher.child import NOT_EXECUTABLE, NOT_FOUND
from reconciler.runtime.launcher.connection import KeeperError
from reconciler.runtime.launcher.launcher import Fork, closing_fds
from reconciler.runtime.mesos.checkpoint import Run
from reconciler.runtime.mesos.container import Container, Say, Workshop
from reconciler.runtime.mesos.fit import shared_notice
from reconciler.runtime.mesos.preparing import Prepared, prepare, still_wanted
from reconciler.spec.namespaces import Sharing, effective
from reconciler.states import ContainerState, Reason


class Ending(Protocol):
    """What a launch needs of `ending`: to have the end noticed, and to take away what failed."""

    def watch(self, container: Container) -> None: ...

    def parent_is_gone(self, container: Container) -> bool: ...

    async def clean_up(self, container: Container) -> None: ...

    async def give_up(self, container: Container) -> None: ...


class Launching:
    def __init__(self, workshop: Workshop, ending: Ending, fetcher: Fetcher, hooks: Hooks, boot: str) -> None:
        self._shop = workshop
        self._ending = ending
        self._fetcher = fetcher
        self._hooks = hooks
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
        shop = self._shop
        if config.spec.images:
            config = await shop.images.lay_out(config, mapped=_mapped(config, parent))
        if config.spec.image is not None:
            container.note(kill_signal=config.spec.kill_policy.signal, health_checks=config.health_checks)
        try:
            prepared = await shop.hop("launch", lambda say: prepare(shop, container, config, parent, say))
        except TimeoutError:
            container.unwanted = True  # for the thread, should it come free
            raise
        with closing_fds(prepared.fds):
            still_wanted(container)
            beside = asyncio.create_task(self._beside(prepared), name=f"beside the fork of {container.name}")
            try:
                await self._fork(container, prepared, parent)
            finally:
                await asyncio.gather(beside, return_exceptions=True)  # undone can be only what is made
            await beside

        container.enter(ContainerState.ISOLATING)
        context, pid = shop.context(container), container.run.pid or 0
        await shop.each("isolate", lambda isolator: isolator.isolate(context, pid), of=prepared.isolating)

        container.enter(ContainerState.FETCHING)
        still_wanted(container)
        await self._fetch(container, config)
        still_wanted(container)
        await shop.launcher.release(container.name, container.run.run)
        if container.run.termination is not None:
            # it ended, and was cleaned up after, before this task had its turn: that must not be undone
            container.note(started_at=container.run.termination.at)
            return
        # only now are the namespaces in place that the child enters or unshares by itself
        container.checkpoint(
            state=ContainerState.RUNNING, started_at=shop.clock(), namespaces=_namespaces(container.run.pid)
        )

    async def _beside(self, prepared: Prepared) -> None:
        def work(say: Say) -> None:
            for each in prepared.info.beside:
                each()

        if prepared.info.beside:
            await self._shop.hop("what is done beside the fork", work)

    async def _fetch(self, container: Container, config: ContainerConfig) -> None:
        before = container.run.message

        def say(text: str) -> None:
            container.note(message=text)
            self._shop.notify(container.name)

        async def bring() -> None:
            await self._fetcher.fetch(config, say)
            await self._hooks.post_fetch(config.spec, config.sandbox)

        fetching = asyncio.create_task(bring(), name=f"fetch for {container.name}")
        container.interrupt = fetching.cancel
        try:
            await fetching
        except asyncio.CancelledError:
            still_wanted(container)
            raise
        finally:
            container.interrupt = lambda: None
        container.note(message=before)

    async def _fork(self, container: Container, prepared: Prepared, parent: Container | None) -> None:
        shop, info = self._shop, prepared.info
        nested = parent is not None and bool(shop.launcher.gives)
        forked = await shop.launcher.fork(
            Fork(
                name=container.name,
                run=container.run.run,
                plan=container.run.plan,
                clone=tuple(sorted(info.namespaces & shop.launcher.gives)),
                fds=prepared.fds,
                parent=parent.pidfd if parent is not None and nested else None,
                # shared or private, a nested pid namespace lies in its parent's
                enter_pid=nested and ("pid" in info.join or "pid" in info.namespaces),
            )
        )
        container.pidfd = forked.pidfd
        container.checkpoint(pid=forked.pid, start=forked.start)
        self._ending.watch(container)
        if not container.run.plan.get("init", True) and shop.launcher.gives:
            await shop.stage("pinning the pidfd", shop.pins.pin, container.name, forked.pidfd)

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


def _mapped(config: ContainerConfig, parent: Container | None) -> bool:
    """Whether its user namespace is going to be other than the host's, its own or its parent's."""
    if effective(config.spec)["user"] is Sharing.PRIVATE:
        return True
    return parent is not None and "user" in parent.run.plan


def _namespaces(pid: int | None) -> dict[str, int]:
    """Of the process; where they cannot be read (another user's process, no root) it shares ours."""
    found = proc.namespaces(pid) if pid is not None else {}
    return found or proc.namespaces("self")
