"""Puts a runtime together from settings. The one place that knows all containerizers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import ReconcilerError, Terminal
from reconciler.runtime import isolation

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import Containerizer, Runtime
    from reconciler.runtime.fetcher.fetcher import Fetcher
    from reconciler.runtime.isolators.isolator import Isolator
    from reconciler.runtime.launcher.launcher import Launcher
    from reconciler.runtime.mesos.measuring import Sample
    from reconciler.runtime.provisioner.registry import Access
    from reconciler.runtime.settings import RuntimeSettings
    from reconciler.spec.model import ContainerSpec

CONTAINERIZERS = ("docker", "mesos")
ONLY_DOCKER = "the agent runs in a container of its own, and what it forked there would end with that"
_END_SECONDS = 5.0


def refused(settings: RuntimeSettings, spec: ContainerSpec) -> list[str]:
    """What the spec asks for and this host's launcher, or any engine, cannot give, a sentence each."""
    if settings.docker_agent_image is not None and spec.type != "docker":
        return [f"spec.type: {spec.type}: with --docker-agent-image only docker: {ONLY_DOCKER}"]
    if spec.type == "docker":
        from reconciler.runtime.docker import refusals, secrets

        return refusals.sentences(spec, secrets.why_none(in_container=settings.docker_agent_image is not None))
    from reconciler.runtime.mesos import judging

    return judging.refusals(spec, *_judging(settings), settings.image_provisioner_backend)


def foreseen(settings: RuntimeSettings, spec: ContainerSpec) -> str:
    """What the host lacks now of what a launch of it would need, "" for nothing that can be told beforehand."""
    if spec.type != "mesos":
        return ""
    from reconciler.runtime.mesos import judging

    _, isolators, _ = _judging(settings)
    try:
        judging.foresee(spec, isolators)
    except (ReconcilerError, OSError) as error:
        return str(error).removeprefix(f"{spec.name}: ")
    return ""


@lru_cache(maxsize=1)
def _judging(settings: RuntimeSettings) -> tuple[Launcher, list[Isolator], frozenset[str]]:
    """For as many specs as there are."""
    return isolation.chain(settings)


def build(settings: RuntimeSettings, notify: Callable[[str], None]) -> Runtime:
    """A containerizer ready to `recover`. Raises Terminal for settings that name what does not exist."""
    from reconciler.runtime.composing import ComposingContainerizer
    from reconciler.runtime.executor.attending import Timeouts
    from reconciler.runtime.executor.containerizer import ExecutingContainerizer
    from reconciler.runtime.fetcher.fetcher import Fetcher

    settings.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fetcher = Fetcher(settings.root / "cache" / "uris")
    makers = {"mesos": _mesos, "docker": _docker}
    made = [makers[name](settings, fetcher, notify) for name in containerizers(settings)]
    composed, runtime_dir = ComposingContainerizer(made, notify), settings.runtime_dir
    timeouts = Timeouts(settings.executor_registration_timeout, settings.executor_reregistration_timeout)
    return ExecutingContainerizer(composed, runtime_dir=runtime_dir, notify=notify, timeouts=timeouts)


def containerizers(settings: RuntimeSettings) -> tuple[str, ...]:
    """Those asked for, in that order; else mesos, and docker where an engine answers or may have a container of ours.
    For an agent in a container docker alone. Raises Terminal for a name that is none."""
    from reconciler.runtime.docker import naming, wire
    from reconciler.runtime.docker.marks import Marks

    if settings.docker_agent_image is not None:
        return ("docker",)
    if (asked := settings.containerizers) is not None:
        if unknown := [name for name in asked if name not in CONTAINERIZERS]:
            there_are = ", ".join(CONTAINERIZERS)
            raise Terminal(f"--containerizers: no such containerizer: {', '.join(unknown)}; there are: {there_are}")
        return tuple(dict.fromkeys(asked))
    docker = bool(Marks(settings.root).names()) or wire.answers(naming.url_of(os.environ))
    return ("mesos", "docker") if docker else ("mesos",)


Notify = Callable[[str], None]


def _mesos(settings: RuntimeSettings, fetcher: Fetcher, notify: Notify) -> Containerizer:
    from reconciler.runtime.mesos.containerizer import MesosContainerizer

    launcher, isolators, left_out = isolation.chain(settings)
    return MesosContainerizer(
        root=settings.root,
        runtime_dir=settings.runtime_dir,
        launcher=launcher,
        isolators=isolators,
        fetcher=fetcher,
        notify=notify,
        left_out=left_out,
        hooks=settings.hooks,
        access=_access(settings),
        image_backend=settings.image_provisioner_backend,
    )


def _access(settings: RuntimeSettings) -> Access:
    from reconciler.runtime.provisioner.registry import Access

    return Access(settings.insecure_registries, settings.registry_auth, settings.registry_mirrors)


def _docker(settings: RuntimeSettings, fetcher: Fetcher, notify: Notify) -> Containerizer:
    from reconciler.runtime.docker.contained import InContainers
    from reconciler.runtime.docker.containerizer import DockerContainerizer
    from reconciler.runtime.docker.engine import Engine
    from reconciler.runtime.docker.executors import Begin, ByKeeper, Executors
    from reconciler.runtime.docker.marks import Marks
    from reconciler.runtime.docker.naming import url_of
    from reconciler.runtime.docker.secrets import Secrets, why_none
    from reconciler.runtime.kernel import cgroups

    url, marks = url_of(os.environ), Marks(settings.root)
    engine = Engine(url)
    begin: Begin = ByKeeper(settings.runtime_dir)
    if (image := settings.docker_agent_image) is not None:
        begin = InContainers(engine, image, settings.owner)
    return DockerContainerizer(
        engine=engine,
        isolators=isolation.cgroup_isolators(cgroups.read_map()),
        marks=marks,
        executors=Executors(marks, url, settings.runtime_dir, begin),
        secrets=Secrets(settings.runtime_dir),
        access=_access(settings),
        no_secrets=why_none(in_container=settings.docker_agent_image is not None),
        owner=settings.owner,
        fetcher=fetcher,
        notify=notify,
        hooks=settings.hooks,
    )


def sample(root: Path, runtime_dir: Path, owner: str, names: Collection[str] | None) -> dict[str, Sample]:
    """What containers use at this moment, without an agent: see `measuring`."""
    from reconciler.runtime.docker import naming
    from reconciler.runtime.docker.observing import sample_engine
    from reconciler.runtime.isolators.disk_du import DiskIsolator
    from reconciler.runtime.isolators.disk_xfs import XfsIsolator
    from reconciler.runtime.isolators.network_usage import NetworkUsage
    from reconciler.runtime.kernel import cgroups
    from reconciler.runtime.mesos.measuring import sample

    linux = isolation.cgroup_isolators(cgroups.read_map())
    isolators = {
        "linux": [*linux, DiskIsolator(), XfsIsolator(root), NetworkUsage()],
        "posix": [*isolation.posix_isolators(), DiskIsolator()],
    }
    native = sample(runtime_dir, names, lambda launcher: isolators.get(launcher, []))
    return {**sample_engine(root, owner, naming.url_of(os.environ), names, linux), **native}


async def end(settings: RuntimeSettings) -> None:
    """No container is left: have the keeper go now, and remove our cgroup roots and our empty directories."""
    from reconciler.runtime.kernel import cgroups
    from reconciler.runtime.launcher import connection
    from reconciler.runtime.launcher.cgroup_tree import CgroupTree
    from reconciler.runtime.launcher.pins import Pins

    await asyncio.to_thread(connection.end, settings.runtime_dir, _END_SECONDS)
    Pins(settings.runtime_dir).remove()
    name, _ = isolation.choose_launcher(settings.launcher)
    if name == "linux":
        tree = CgroupTree(cgroups.read_map(), settings.cgroups_root, settings.owner)
        await asyncio.to_thread(tree.remove_roots)
    for directory in (settings.runtime_dir / "containers", settings.runtime_dir / "docker", settings.runtime_dir):
        with contextlib.suppress(OSError):
            directory.rmdir()
