"""Checkpoints of earlier releases, brought to today's form one version at a time. Pure; standard library only.

    1   launch plans without `payload_steps`, `init_steps`, `files`: who the payload is was a step `user` of its own
    2   `kill_at`: when a destroy under way sends SIGKILL

A container outlives the agent that launched it, so what an agent finds may have been written by any release before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

VERSION = 2


def migrate(data: dict[str, Any]) -> dict[str, Any]:
    """Without its "version". Raises ValueError for one of a later release, KeyError for none at all."""
    found = data.pop("version")
    if not isinstance(found, int) or not 1 <= found <= VERSION:
        raise ValueError(f"written in version {found!r} of its form, this release knows 1 to {VERSION}")
    for version in range(found, VERSION):
        data = _STEPS[version](data)
    return data


def _from_1(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "plan": _plan_from_1(data["plan"]) if data.get("plan") else {}, "kill_at": None}


def _plan_from_1(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Without this an `exec` would run as root in a container that does not."""
    users = [step for step in plan.get("steps", ()) if step["op"] == "user"]
    became = [{**step, "op": "credentials"} for step in users]
    steps = [step for step in plan.get("steps", ()) if step["op"] != "user"]
    return {"payload_steps": became, "init_steps": became, "files": {}, **plan, "steps": steps}


_STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
