"""Custom executors: a program of the user's that is a container's main process and runs its tasks.

Invariant: a container with an executor has at least one task: its own `command` or `shell`, or those of
`executor.tasks`, whose changes touch the changed task alone.
"""

from __future__ import annotations

from pydantic import Field, StrictStr

from reconciler.spec.kinds import Argv, Duration, Label, Part, Text, User, VariableName
from reconciler.spec.policies import KillPolicy
from reconciler.spec.resources import ResourceAmounts


class Task(Part):
    """What an executor is told to run. It is handed over as it stands: what it means is the executor's to know."""

    command: Argv | None = Field(None, description="The task's program and its arguments, as a list.")
    shell: Text | None = Field(None, description="Or a line for /bin/sh -c.")
    args: tuple[StrictStr, ...] = Field((), description="Further arguments for the command.")
    env: dict[VariableName, StrictStr] = Field(
        default_factory=dict, description="The task's variables, beside the executor's."
    )
    data: StrictStr | None = Field(None, description="Anything else that the executor understands.")
    kill_policy: KillPolicy = Field(default_factory=KillPolicy, description="How the executor is to end it.")


class ExecutorResources(Part):
    """What an executor needs for itself; nothing by default."""

    requests: ResourceAmounts = Field(default_factory=ResourceAmounts, description="Added to the container's requests.")
    limits: ResourceAmounts = Field(
        default_factory=ResourceAmounts, description="Added to those limits that the container has."
    )


class Executor(Part):
    """A program of the user's that runs the tasks in place of the built-in executor."""

    command: Argv | None = Field(None, description="The executor's program and arguments.")
    shell: Text | None = Field(None, description="Or a line for /bin/sh.")
    user: User | None = Field(None, description="Who it runs as; the container's user when not given.")
    resources: ExecutorResources = Field(
        default_factory=ExecutorResources,
        description="What it needs beside the tasks: cpus, memory, pids, disk.",
    )
    shutdown_grace_period: Duration = Field(5.0, description="Time it has to shut down before it is killed.")
    tasks: dict[Label, Task] = Field(
        default_factory=dict,
        description="What it runs, by name, in place of the container's own command; changed one by one, in place.",
    )
