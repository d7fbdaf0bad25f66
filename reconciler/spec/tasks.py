"""What a container with an executor comes to: its tasks, its main process, and the resources of both. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from reconciler.spec.executors import Task
from reconciler.spec.resources import ResourceAmounts, ResourceRequests, Resources

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

SUMMED = ("cpus", "memory", "memory_swap", "pids", "disk")
"""Amounts that an executor may add to; the others are the container's alone."""


def tasks(spec: ContainerSpec) -> Mapping[str, Task]:
    """By name; the container's own command has the container's. None without an executor."""
    if spec.executor is None:
        return {}
    if spec.executor.tasks:
        return spec.executor.tasks
    own = Task(command=spec.command, shell=spec.shell, args=spec.args, kill_policy=spec.kill_policy)
    return {spec.label: own}


def main_process(spec: ContainerSpec) -> ContainerSpec:
    """The container as its containerizer sees it: with its executor as the command."""
    executor = spec.executor
    if executor is None:
        return spec
    return spec.model_copy(
        update={
            "executor": None,
            "command": executor.command,
            "shell": executor.shell,
            "args": (),
            "user": executor.user or spec.user,
            "resources": resources(spec),
        }
    )


def resources(spec: ContainerSpec) -> Resources:
    """Of the tasks and the executor together. What has no limit gets none."""
    executor, own = spec.executor, spec.resources
    if executor is None:
        return own
    more = executor.resources
    requests = own.requests.model_copy(update=_sums(own.requests, more.requests, open_ended=False))
    limits = own.limits.model_copy(update=_sums(own.limits, more.limits, open_ended=True))
    return Resources(requests=ResourceRequests.model_validate(requests), limits=limits)


def _sums(own: ResourceAmounts, more: ResourceAmounts, *, open_ended: bool) -> dict[str, float | int]:
    """open_ended: what is not given means no bound, not nothing."""
    found: dict[str, float | int] = {}
    for name in SUMMED:
        here, there = getattr(own, name), getattr(more, name)
        if there is not None and (here is not None or not open_ended):
            found[name] = there + (here or 0)
    return found
