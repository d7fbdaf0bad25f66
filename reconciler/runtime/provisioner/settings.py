"""What an image says about how it is run, where the spec says nothing: Docker's rules. Pure.

    command, shell     replace entrypoint and command of the image
    args               replace its command, for its entrypoint
    env                on top of its variables
    workingDir, user   in place of its own
    killPolicy.signal  in place of its stop signal, unless it is SIGTERM, the default
    volumes            each in place of the volume of its own at that path
    healthChecks       in place of its HEALTHCHECK; that is one of readiness, for it ends nothing (the loop chooses)

Invariant: an image's words are data: a name in it that means something to us has no effect (CVE-2026-53488).
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from reconciler.errors import Terminal
from reconciler.runtime.provisioner.manifests import ImageConfig
from reconciler.spec.policies import HealthCheck
from reconciler.spec.targets import normal, refused
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

_OURS = "MESOS_"  # the beginning of variables that tell a container what we gave it


def applied(spec: ContainerSpec, image: ImageConfig) -> ContainerSpec:
    """The spec with what it leaves to its image. Raises Terminal when there is nothing to run, or no such signal."""
    changed: dict[str, Any] = {"env": {**{k: v for k, v in image.env if not k.startswith(_OURS)}, **spec.env}}
    if spec.command is None and spec.shell is None:
        argv = (*image.entrypoint, *(spec.args or image.cmd))
        if not argv or not argv[0]:
            why = "the image names no command; give the spec one"
            raise Terminal(f"{spec.name}: spec.command: {why}", Reason.INVALID_SPEC)
        changed |= {"command": argv, "args": ()}
    if spec.working_dir is None and image.working_dir:
        changed["working_dir"] = f"/{image.working_dir.lstrip('/')}"
    if spec.user is None and image.user:
        changed["user"] = image.user
    if image.stop_signal and spec.kill_policy.signal == "SIGTERM":
        chosen = _signal(spec.name, image.stop_signal)
        changed["kill_policy"] = spec.kill_policy.model_copy(update={"signal": chosen})
    return spec.model_copy(update=changed)


def targets(image: ImageConfig) -> tuple[str, ...]:
    """Where it wants volumes, outer ones first."""
    return tuple(sorted({normal(f"/{path}") for path in image.volumes}))


def volumes(spec: ContainerSpec, image: ImageConfig) -> tuple[str, ...]:
    """Those of them that the spec has nothing for. Raises Terminal for one where there can be none."""
    taken = {normal(each.target) for each in spec.volumes}
    found = tuple(target for target in targets(image) if target not in taken)
    for target in found:
        if why := refused(target):
            raise Terminal(f"{spec.name}: the image's volume {target} {why}", Reason.INVALID_SPEC)
    return found


def health_checks(spec: ContainerSpec, image: ImageConfig) -> tuple[dict[str, Any], ...]:
    """What it says to check, as a record has it, if the spec wants that."""
    found = image.health
    if found is None or spec.image is None or not spec.image.health_check:
        return ()
    check = HealthCheck(
        name="image",
        role="readiness",
        command=found.command,
        delay=min(found.start_interval, found.interval),
        interval=found.interval,
        timeout=found.timeout,
        consecutive_failures=found.retries,
        grace_period=found.start_period,
    )
    return (check.model_dump(mode="json", by_alias=True, exclude_none=True),)


def _signal(name: str, text: str) -> str:
    """By name, with or without SIG, or by number."""
    try:
        return signal.Signals(int(text)).name if text.isdecimal() else signal.Signals[_named(text)].name
    except (ValueError, KeyError):
        why = f"the image's stop signal {text!r} is none of this system's; give killPolicy.signal another than SIGTERM"
        raise Terminal(f"{name}: {why}", Reason.INVALID_SPEC) from None


def _named(text: str) -> str:
    return "SIG" + text.upper().removeprefix("SIG")
