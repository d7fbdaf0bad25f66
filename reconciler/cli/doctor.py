"""`doctor`: what this host can do, which launcher is chosen and why, and what is amiss."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from pathlib import Path

from reconciler.agent import report
from reconciler.agent.lock import holder, known_owner
from reconciler.agent.paths import Places
from reconciler.cli.table import clean
from reconciler.errors import ReconcilerError

MINIMUM_KERNEL = (5, 15)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--launcher", metavar="linux|posix", help="look with this launcher in mind")
    parser.add_argument("--docker-agent-image", metavar="IMAGE", help="look with an agent in a container in mind")


def run(args: argparse.Namespace, places: Places) -> int:
    findings = [*_host(args.launcher), *_isolators(args.launcher, places), *_state(places)]
    findings += [*_networks(places), *_images(places)] if os.geteuid() == 0 else []
    findings[1:1] = _containerizers(args.docker_agent_image, places)
    if args.output == "json":
        print(json.dumps([{"check": name, "ok": ok, "finding": text} for name, ok, text in findings], indent=2))
    else:
        for name, ok, text in findings:
            print(clean(f"{'ok ' if ok else 'BAD'}  {name:<12} {text}"))
    return 0 if all(ok for _, ok, _ in findings) else 1


Finding = tuple[str, bool, str]


def _host(wanted: str | None) -> list[Finding]:
    from reconciler.runtime.isolation import choose_launcher
    from reconciler.runtime.kernel import cgroups

    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    needed = ".".join(map(str, MINIMUM_KERNEL))
    found: list[Finding] = [("kernel", numbers >= MINIMUM_KERNEL, f"{release} (at least {needed} is needed)")]
    try:
        launcher, why = choose_launcher(wanted)
        found.append(("launcher", True, f"{launcher}: {why}"))
        if launcher == "posix":
            found.append(("launcher", True, "no namespaces and no limits: specs that name one are Blocked"))
    except ReconcilerError as error:
        found.append(("launcher", False, error.message))
    for hierarchy in cgroups.read_map().hierarchies:
        names = ", ".join(sorted(hierarchy.controllers)) or "no controllers"
        found.append(("cgroups", True, f"v{hierarchy.version} at {hierarchy.mount}: {names}"))
    if os.geteuid() == 0:
        from reconciler.runtime.isolators.cgroups_devices import unavailable

        why = unavailable(cgroups.read_map())
        found.append(("devices", not why, f"not restricted: {why}" if why else "restricted to Docker's default list"))
    found.append(_init())
    kinds = sorted(entry.name for entry in os.scandir("/proc/self/ns") if not entry.name.endswith("_for_children"))
    found.append(("namespaces", True, ", ".join(kinds)))
    return [*found, *_user_namespaces()]


def _containerizers(image: str | None, places: Places) -> list[Finding]:
    """Which there are, and why no others: by that flag, or the last agent's."""
    from reconciler.agent.lock import remembered_flags
    from reconciler.agent.options import AgentOptions
    from reconciler.runtime.build import ONLY_DOCKER, containerizers

    options = AgentOptions.remembered(remembered_flags(places))
    image = image or options.docker_agent_image
    if image is not None:
        return [("containers", True, f"docker only, with --docker-agent-image {image}: {ONLY_DOCKER}")]
    try:
        found = containerizers(options.settings(places, "doctor"))
    except ReconcilerError as error:
        return [("containers", False, error.message)]
    return [("containers", True, ", ".join(found))]


def _init() -> Finding:
    from reconciler.runtime.launcher import static_init

    why = static_init.why_not()
    static = "the static one beside each container, some 8 KiB"
    return ("init", True, f"a Python interpreter beside each container, some 2 MiB: {why}" if why else static)


def _user_namespaces() -> list[Finding]:
    from reconciler.runtime.kernel import userns

    name = "user"
    if os.geteuid() == 0:
        why = userns.why_none()
        return [
            (
                name,
                True,
                f"specs with namespaces.user: private are Blocked: {why}" if why else "private ones can be had",
            )
        ]
    why = userns.why_none_for_users()
    may = f"this kernel makes none for ordinary users: {why}" if why else "this kernel lets ordinary users make them"
    return [(name, True, f"{may}; the posix launcher makes none either way, namespaces need root")]


def _networks(places: Places) -> list[Finding]:
    """Which there are, by the last agent's flags, and what keeps containers from them. That the built-in one cannot be
    had harms nobody who does not name it."""
    from reconciler.agent.lock import remembered_flags
    from reconciler.agent.options import AgentOptions
    from reconciler.runtime.isolation import network_drivers
    from reconciler.runtime.network import bridge, definitions, forwarding
    from reconciler.runtime.network.driver import Request

    settings = AgentOptions.remembered(remembered_flags(places)).settings(places, known_owner(places) or "doctor")
    name, why = "network", bridge.lacking()
    found: list[Finding] = [(name, True, why or f"bridges and veth pairs can be made; {forwarding.told()}")]
    try:
        definitions.read(settings.networks)
    except ReconcilerError as error:
        return [*found, (name, False, error.message)]
    for driver in network_drivers(settings):
        for network in driver.networks():
            request = Request("doctor", network, "eth0")
            wrong = driver.check(request)
            try:
                driver.foresee(request)
            except (OSError, ReconcilerError) as error:
                wrong.append(str(error))
            ok = not wrong or network == definitions.BUILT_IN
            found.append((name, ok, f"{network} ({driver.name}): {'; '.join(wrong) or 'can be had'}"))
    return found


def _images(places: Places) -> list[Finding]:
    """Which backends there are for them, where they are kept."""
    from reconciler.runtime.provisioner import layers

    base = next(directory for directory in (places.root, *places.root.parents) if directory.is_dir())
    try:
        why, mapped = layers.why_no_overlay(base, 2), layers.why_no_mapped_overlay(base, 2)
    except OSError as error:
        why = mapped = str(error)
    found = []
    for kind, lack in (("overlay", why), ("overlay with user: private", mapped)):
        found.append(("images", True, f"{kind}: not at {base}: {lack}; copied instead" if lack else f"{kind}: works"))
    return [*found, ("images", True, "copy, bind: work, see --image-provisioner-backend")]


def _isolators(wanted: str | None, places: Places) -> list[Finding]:
    """Each says itself how far it works; what does not work is refused when a spec asks for it, and breaks nothing."""
    from reconciler.runtime.isolation import supported
    from reconciler.runtime.settings import RuntimeSettings

    try:
        found = supported(RuntimeSettings(places.root, places.runtime_dir, "doctor", launcher=wanted))
    except ReconcilerError:
        return []  # said before
    return [("isolator", True, f"{name}: {each.level}{f', {each.why}' if each.why else ''}") for name, each in found]


def _state(places: Places) -> list[Finding]:
    from reconciler.runtime.launcher import connection

    agent = holder(places)
    found: list[Finding] = [
        ("agent", True, f"pid {agent.pid}, on {agent.source or 'a command'}" if agent else "none is running"),
        ("root", True, f"{places.root}" + ("" if places.root.is_dir() else " (not there yet)")),
        ("runtime", True, f"{places.runtime_dir}" + ("" if places.runtime_dir.is_dir() else " (not there yet)")),
    ]
    if places.runtime_dir.is_dir():
        try:
            with connection.connect(places.runtime_dir, launch=False) as sock:
                answer = connection.Caller(sock).hello("doctor")
            found.append(("keeper", True, f"pid {answer['pid']}, {len(answer['containers'])} containers"))
        except (OSError, ValueError):
            found.append(("keeper", True, "none is running"))
    if agent is not None and (why := report.notes(places).get("watch")):
        found.append(("watch", False, why))
    found += _leftovers(places)
    return found


def _leftovers(places: Places) -> list[Finding]:
    """Cgroups of ours that no record speaks of."""
    from reconciler.runtime.kernel import cgroups

    owner = known_owner(places)
    found: list[Finding] = []
    if owner is not None and places.root.is_dir():
        free = shutil.disk_usage(places.root).free
        found.append(("disk", free > 64 << 20, f"{free >> 20} MiB free at {places.root}"))
        for hierarchy in cgroups.read_map().hierarchies:
            for directory in Path(hierarchy.mount, "reconciler", owner).glob("*/"):
                if not (places.records / directory.name).is_dir() and directory.name != "_leaf":
                    found.append(("leftover", False, f"cgroup {directory}: the next `run` or `apply` removes it"))
    return found
