"""The agent's flags, after Mesos's, shared by the verbs that start one: run, apply, plan."""

from __future__ import annotations

import argparse
import re
from typing import Any

from reconciler.agent.options import AgentOptions
from reconciler.agent.paths import absolute
from reconciler.errors import ReconcilerError
from reconciler.runtime.build import ONLY_DOCKER
from reconciler.runtime.settings import IMAGE_BACKENDS

_MOST_RESTARTS = 1000
_LONGEST_WAIT = 24 * 3600.0  # for an executor


def add(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("agent")
    group.add_argument("--containerizers", metavar="LIST", help="which, in which order (default: mesos)")
    group.add_argument("--isolation", metavar="LIST", help="isolators to use (default: `default`, all of our own)")
    group.add_argument("--launcher", metavar="linux|posix", help="default: linux for root where there are cgroups")
    group.add_argument("--cgroups-root", metavar="NAME", help="where our cgroups are (default: reconciler)")
    group.add_argument(
        "--node-label", metavar="KEY=VALUE", action="append", help="of this node, for nodeSelector; may be repeated"
    )
    group.add_argument("--user-ids", metavar="FIRST-LAST", help="host ids for user namespaces of containers")
    group.add_argument("--insecure-registries", metavar="LIST", help="HOST[:PORT] to speak to in plain HTTP")
    group.add_argument("--registry-mirrors", metavar="LIST", help="REGISTRY=MIRROR[:PORT], asked before the registry")
    group.add_argument(
        "--image-provisioner-backend",
        metavar="|".join(IMAGE_BACKENDS),
        help="how images become roots (default: overlay, or copy where overlayfs cannot work)",
    )
    group.add_argument(
        "--image-disk-headroom",
        metavar="PART",
        help="of the disk to keep free: below it unused images go (default: 0.1; 0: they stay)",
    )
    group.add_argument("--registry-auth", metavar="FILE", help="credentials for registries, as Docker's config.json")
    group.add_argument("--networks", metavar="FILE", help="networks of the host's own, beside the built-in bridge")
    group.add_argument(
        "--network-cni-config-dir", metavar="DIR", help="configurations of CNI networks (default: /etc/cni/net.d)"
    )
    group.add_argument(
        "--network-cni-plugins-dir", metavar="LIST", help="where their plugins are (default: /opt/cni/bin,/usr/lib/cni)"
    )
    group.add_argument(
        "--max-restarts-per-hour", metavar="N", help="of one container, after failures; 0: no limit (default: 100)"
    )
    group.add_argument(
        "--docker-agent-image", metavar="IMAGE", help="the agent runs in a container: executors too, of this image"
    )
    group.add_argument(
        "--executor-registration-timeout", metavar="DURATION", help="a custom executor has to subscribe (default: 1m)"
    )
    group.add_argument(
        "--executor-reregistration-timeout", metavar="DURATION", help="and to come back to a new agent (default: 10s)"
    )
    group.add_argument("--hooks", metavar="LIST", help="programs and entry points that are asked about each container")
    group.add_argument("--hook-timeout", metavar="DURATION", help="what each hook may take (default: 10s)")


def _mirrors(text: str | None) -> tuple[str, ...]:
    found = _listed(text) or ()
    for each in found:
        if not all(each.partition("=")) or "/" in each:
            message = f"--registry-mirrors: {each!r} is not REGISTRY=MIRROR[:PORT], such as docker.io=mirror.example"
            raise ReconcilerError(message)
    return found


def chosen(args: argparse.Namespace) -> AgentOptions:
    from reconciler.runtime.hooks.hooks import MOST_SECONDS

    return AgentOptions(
        containerizers=_containerizers(args.containerizers, args.docker_agent_image),
        isolation=_listed(args.isolation),
        launcher=args.launcher,
        cgroups_root=args.cgroups_root or "reconciler",
        node_labels=_labels(args.node_label),
        docker_agent_image=args.docker_agent_image,
        user_ids=args.user_ids,
        insecure_registries=_listed(args.insecure_registries) or (),
        registry_auth=_path(args.registry_auth),
        registry_mirrors=_mirrors(args.registry_mirrors),
        image_provisioner_backend=_backend(args.image_provisioner_backend),
        image_disk_headroom=_headroom(args.image_disk_headroom),
        networks=_networks(args.networks),
        network_cni_config_dir=_path(args.network_cni_config_dir),
        network_cni_plugins_dir=_paths(args.network_cni_plugins_dir),
        max_restarts_per_hour=_restarts(args.max_restarts_per_hour),
        hooks=_hooks(args.hooks),
        hook_timeout=_seconds("--hook-timeout", args.hook_timeout, AgentOptions().hook_timeout, MOST_SECONDS),
        **_of_executors(args),
    )


def _containerizers(given: str | None, agent_image: str | None) -> tuple[str, ...] | None:
    found = _listed(given)
    if agent_image is not None and set(found or ()) - {"docker"}:
        raise ReconcilerError(f"--containerizers {given}: with --docker-agent-image only docker: {ONLY_DOCKER}")
    return found


def _of_executors(args: argparse.Namespace) -> dict[str, Any]:
    found, default = {}, AgentOptions()
    for name in ("executor_registration_timeout", "executor_reregistration_timeout"):
        flag = "--" + name.replace("_", "-")
        found[name] = _seconds(flag, getattr(args, name), getattr(default, name), _LONGEST_WAIT)
    return found


def _hooks(given: str | None) -> tuple[str, ...]:
    names = _listed(given) or ()
    if names:
        from reconciler.runtime.hooks.hooks import find

        find(names)
    return names


def _seconds(flag: str, given: str | None, default: float, most: float) -> float:
    if given is None:
        return default
    from reconciler.spec.quantities import parse_duration

    try:
        seconds = parse_duration(given)
    except ValueError as error:
        raise ReconcilerError(f"{flag} {given}: {error}") from None
    if not 0 < seconds <= most:
        raise ReconcilerError(f"{flag} {given}: must be more than nothing and at most {most:g}s")
    return seconds


def _headroom(given: str | float | None) -> float:
    if given is None:
        return AgentOptions().image_disk_headroom
    if re.fullmatch(r"0(\.[0-9]{1,6})?", text := str(given)) is None:
        raise ReconcilerError(f"--image-disk-headroom {text}: must be a part of the disk, from 0 to below 1")
    return float(text)


def _backend(given: str | None) -> str | None:
    if given is not None and given not in IMAGE_BACKENDS:
        there_are = ", ".join(IMAGE_BACKENDS)
        raise ReconcilerError(f"--image-provisioner-backend {given}: there is no such backend; use one of: {there_are}")
    return given


def _restarts(given: str | int | None) -> int:
    if given is None:
        return AgentOptions().max_restarts_per_hour
    text = str(given)
    if not text.isdecimal() or int(text) > _MOST_RESTARTS:
        raise ReconcilerError(f"--max-restarts-per-hour {text}: must be a whole number from 0 to {_MOST_RESTARTS}")
    return int(text)


def _labels(given: list[str] | None) -> tuple[tuple[str, str], ...]:
    found = []
    for label in given or []:
        key, equals, value = label.partition("=")
        if not key or not equals:
            raise ReconcilerError(f"--node-label {label}: must be KEY=VALUE, such as disk=ssd")
        found.append((key, value))
    return tuple(found)


def _networks(given: str | None) -> str | None:
    path = _path(given)
    if path is not None:
        from reconciler.runtime.network import definitions

        definitions.read(path)
    return path


def _path(value: str | None) -> str | None:
    return str(absolute(value)) if value else None


def _paths(value: str | None) -> tuple[str, ...] | None:
    listed = _listed(value)
    return None if listed is None else tuple(str(absolute(each)) for each in listed)


def _listed(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())
