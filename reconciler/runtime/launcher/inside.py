"""The launch plan of a further process in a running container: `exec`, and containers of class debug. Pure data.

It has the environment, working directory, user and privileges of the container's payload, because these are the tail
of the container's own plan, from `workdir` on, the payload's own steps and the files that these need; what made its
namespaces is replaced by entering them. Standard library only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from reconciler.runtime.kernel.terminals import Size
from reconciler.runtime.launcher import credentials, terminal

PARENT = "parent"  # the descriptor by which the plan knows the container

_OF_ITS_OWN_LAUNCH = frozenset({"tty", "pump", "secrets", "user", "host_steps"})


def plan(
    own: Mapping[str, Any],
    differ: Collection[str],
    argv: list[str],
    *,
    env: Mapping[str, str],
    cwd: str | None = None,
    tty: Size | None = None,
    init: bool = False,
) -> dict[str, Any]:
    """own: the container's plan. differ: its namespaces that are not the keeper's. tty: to have a terminal this big."""
    steps: list[dict[str, Any]] = []
    if inside := sorted(set(differ) - {"pid"}):
        steps.append({"op": "enter", "of": PARENT, "namespaces": inside})
    if "user" in differ:
        steps.append(credentials.step(0, 0, []))
    tail = _tail(own["steps"])
    if cwd is not None:
        tail[:1] = [{"op": "workdir", "target": cwd}]
    made = {key: value for key, value in own.items() if key not in _OF_ITS_OWN_LAUNCH}
    made["env"] = {**own["env"], **env}
    if tty is not None:
        owner = next((step["uid"] for step in own.get("payload_steps", ()) if "uid" in step), None)
        steps.append(terminal.step(tty, owner))
        made["tty"] = True
        made["env"].setdefault("TERM", terminal.TERM)
    return {**made, "init": init, "argv": argv, "steps": steps + tail}


def _tail(steps: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    start = next(number for number, step in enumerate(steps) if step["op"] == "workdir")
    return [dict(step) for step in steps[start:]]
