"""`--config FILE`: a YAML mapping of options by their long names; what is given on the command line wins."""

from __future__ import annotations

import argparse
from pathlib import Path

from reconciler.errors import ReconcilerError


def fill_in(args: argparse.Namespace, path: str) -> None:
    """Raises ReconcilerError for a file that cannot be read or an option that does not exist."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe", pure=True).load(Path(path).read_bytes())
    except (OSError, YAMLError, RecursionError, ValueError) as error:
        raise ReconcilerError(f"{path}: cannot be read as a configuration: {error}") from error
    if not isinstance(data, dict | None):
        raise ReconcilerError(f"{path}: must be a mapping of options, such as `root: /srv/state`")
    for key, value in (data or {}).items():
        name = str(key).replace("-", "_")
        if name not in KNOWN:
            raise ReconcilerError(f"{path}: no such option: {key}; there are: {', '.join(sorted(KNOWN))}")
        if hasattr(args, name) and getattr(args, name) is None:
            text = _text(value, f"{path}: {key}")
            setattr(args, name, ([text] if isinstance(value, str) else value) if name in REPEATED else text)


def _text(value: object, where: str) -> str:
    """As it would be written on the command line."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if not isinstance(value, str):
        raise ReconcilerError(f"{where}: must be text or a list of texts, not {value!r}")
    return value


REPEATED = frozenset({"notify", "node_label"})
KNOWN = REPEATED | frozenset(
    {"metrics", "root", "runtime_dir", "output", "containerizers", "isolation", "launcher", "cgroups_root", "user_ids"}
    | {
        "docker_agent_image",
        "hooks",
        "hook_timeout",
        "executor_registration_timeout",
        "executor_reregistration_timeout",
        "poll_interval",
        "require_signed",
        "insecure_registries",
        "registry_mirrors",
        "image_disk_headroom",
        "image_provisioner_backend",
    }
    | {"registry_auth", "max_restarts_per_hour", "networks", "network_cni_config_dir", "network_cni_plugins_dir"}
)
