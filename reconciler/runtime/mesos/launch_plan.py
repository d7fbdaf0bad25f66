"""The launch plan of a container: pure data for the child, built from the spec and the isolators' contributions.

    {name, init, undumpable, argv, env, secrets, steps, payload_steps, init_steps, files, pump?, tty?, user?,
     host_steps?}

Namespaces that are there already are entered first. Steps come in the isolators' order, then the terminal, made inside
and given to the user; the working directory is last, before anybody changes user: the sandbox may be readable by root
alone. What is then left to do, payload and init do for themselves, see launcher/credentials.py.

In a mapped user namespace (`user`: its ids, or whose it is) the child becomes its root first of all, and what is to be
taken of the host is taken for it (`host_steps`, launcher/hostside.py).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from reconciler.errors import Terminal
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.environment import Environment
from reconciler.runtime.isolators import volumes
from reconciler.runtime.isolators.isolator import LaunchInfo
from reconciler.runtime.isolators.namespaces_user import IDS
from reconciler.runtime.kernel.terminals import DEFAULT_SIZE
from reconciler.runtime.launcher import credentials, hostside, inside, terminal
from reconciler.runtime.provisioner import accounts
from reconciler.spec.namespaces import Sharing, effective
from reconciler.states import Reason

THERE = "there:"  # before the name of a namespace: the role of its descriptor
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_ID = 2**32 - 2  # the one above means "leave it as it is" to setresuid(2)


def argv_of(config: ContainerConfig) -> list[str] | None:
    """None for a holder of the shared namespaces."""
    spec = config.spec
    if spec.shell is not None:
        return ["/bin/sh", "-c", spec.shell, "sh", *spec.args] if spec.args else ["/bin/sh", "-c", spec.shell]
    if spec.command:
        return [*spec.command, *spec.args]
    return None


class Account:
    """Who the container runs as. Raises Terminal for a user this host does not know."""

    def __init__(self, user: str | None) -> None:
        self.home = "/"
        self.uid, self.gid, self.groups = os.geteuid(), os.getegid(), [os.getegid()]
        if user is None:
            self.home = _home(self.uid)
            return
        name, _, group = user.partition(":")
        if name.isdecimal() and (group.isdecimal() or not group):
            self.uid = int(name)
            self.gid = int(group) if group else _primary_group(self.uid)
            if max(self.uid, self.gid) > _MAX_ID:
                raise Terminal(f"spec.user: {user!r} is over the highest id, {_MAX_ID}", Reason.INVALID_SPEC)
            self.groups = [self.gid]
            self.home = _home(self.uid)
            return
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            message = f"spec.user: this host has no user {name!r}; use a name of /etc/passwd or uid[:gid]"
            raise Terminal(message, Reason.INVALID_SPEC) from None
        self.uid, self.gid, self.home = entry.pw_uid, entry.pw_gid, entry.pw_dir
        self.groups = os.getgrouplist(name, self.gid)


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"


def _primary_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


class Identity(Protocol):
    """Who runs: an account of the host, or one of the container's own root file system."""

    @property
    def uid(self) -> int: ...

    @property
    def gid(self) -> int: ...

    @property
    def groups(self) -> list[int]: ...

    @property
    def home(self) -> str: ...


def identity(config: ContainerConfig) -> Identity:
    """Reads files. Raises Terminal for a user that cannot be had."""
    if config.rootfs is None:
        return Account(config.spec.user)
    if config.tree is not None:
        return accounts.account_in_layers([Path(lower) for lower in config.tree.lowers], config.spec.user)
    return accounts.account(config.rootfs, config.spec.user, accounts.IN_IMAGES if config.spec.image else None)


def build(
    config: ContainerConfig, info: LaunchInfo, given: Environment, account: Identity, *, privileged: bool
) -> dict[str, Any]:
    """The agent's own environment is no part of it, and of a secret variable only the name."""
    spec = config.spec
    env = {"PATH": PATH, "HOME": account.home, "MESOS_SANDBOX": config.sandbox_path, **info.env}
    if spec.image is not None and spec.parent is None:
        own = effective(spec)["uts"] is Sharing.PRIVATE
        env["HOSTNAME"] = (spec.hostname or spec.label) if own else os.uname().nodename
    sandbox = env["MESOS_SANDBOX"]  # where the container sees it
    env.update(given.plain)
    steps, mapped = _divided(info, volumes.woven(config, info, sandbox), account)
    steps[:0] = [{"op": "enter", "of": THERE + name, "namespaces": [name]} for name in info.entered]
    if spec.tty:
        env.setdefault("TERM", terminal.TERM)
        steps.append(terminal.step(DEFAULT_SIZE, account.uid if privileged else None))
    directory = os.path.join(sandbox, spec.working_dir) if spec.working_dir else sandbox
    steps.append({"op": "workdir", "target": directory})
    argv = argv_of(config)
    return {
        "name": spec.name,
        "init": spec.init or argv is None,
        "undumpable": privileged,
        "argv": argv,
        "env": env,
        "secrets": given.roles,
        "steps": steps,
        **_last_steps(info, account if privileged else None),
        "files": dict(info.files),
        **mapped,
        **streams(config),
    }


def _divided(
    info: LaunchInfo, steps: list[dict[str, Any]], account: Identity
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(the child's own steps, what the plan says of its mapped user namespace). Raises Terminal for an account that
    has no place in it."""
    if info.user is None:
        return steps, {}
    if (highest := max(account.uid, account.gid, *account.groups)) >= IDS:
        message = f"spec.user: the id {highest} is not in its user namespace, which has 0 to {IDS - 1}"
        raise Terminal(message, Reason.INVALID_SPEC)
    hosts = [_without_devices(step) for step in steps if step["op"] in hostside.STEPS]
    own = [step for step in steps if step["op"] not in hostside.STEPS]
    return [credentials.step(0, 0, []), *own], {"user": dict(info.user), "host_steps": hosts}


def _without_devices(step: dict[str, Any]) -> dict[str, Any]:
    """What is root's on the disk is root's in the container too, and a device's owner may open it: none works, however
    privileged the container is."""
    if not step.get("idmap"):
        return step
    return step | {"flags": list(dict.fromkeys([*step.get("flags", ()), "nodev"]))}


def _last_steps(info: LaunchInfo, account: Identity | None) -> dict[str, list[dict[str, Any]]]:
    """What payload and init do last, each in its own process. account: None for an ordinary user, who stays that.

    The init signals and reaps, whatever user the payload has become: KILL is all it holds."""
    became: dict[str, Any] = {"op": "credentials"}
    if account is not None:
        became = credentials.step(account.uid, account.gid, account.groups)
    if info.no_new_privileges:
        became["no_new_privileges"] = True
    payload, init = dict(became), dict(became)
    if info.capabilities is not None:
        bounding = sorted(info.capabilities)
        # a program that root starts gets the bounding set; of another user's, as in Docker, nothing is held
        payload |= {"bounding": bounding, "held": bounding if account is None or account.uid == 0 else []}
        init |= {"bounding": bounding, "held": ["KILL"]}
    if credentials.FILTER not in info.files:
        last = [payload]
    elif info.no_new_privileges:
        last = [payload, {"op": credentials.FILTER}]
    else:
        last = [{"op": credentials.FILTER}, payload]
    return {"payload_steps": [*map(dict, info.payload), *last], "init_steps": [init]}


def build_inside(
    config: ContainerConfig, given: Environment, parent: Mapping[str, Any], differ: Collection[str]
) -> dict[str, Any]:
    """Of a debug container: its parent's plan, entered. A relative working directory starts at the parent's."""
    spec = config.spec
    there = next(step["target"] for step in parent["steps"] if step["op"] == "workdir")
    made = inside.plan(
        parent,
        differ,
        argv_of(config) or [],
        env=given.plain,
        cwd=os.path.join(there, spec.working_dir) if spec.working_dir else None,
        tty=DEFAULT_SIZE if spec.tty else None,
        init=spec.init,
    )
    return {**made, "name": spec.name, "secrets": given.roles, **streams(config)}


def streams(config: ContainerConfig) -> dict[str, Any]:
    """What the plan says of a container whose streams go through a pump."""
    if config.spec.tty:
        return {"pump": terminal.TTY, "tty": True}
    return {"pump": terminal.PIPES} if config.spec.stdin else {}
