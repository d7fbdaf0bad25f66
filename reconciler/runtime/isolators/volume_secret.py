"""Isolator `volume/secret`: the content of a file of the host, as a file in memory that the container's user can read.

Invariant: the content reaches the child by a descriptor and lies in memory that is never swapped; it is in no plan,
checkpoint, log or process of ours but the agent. After Mesos's isolator of that name.
"""

from __future__ import annotations

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Mount, PassiveIsolator
from reconciler.runtime.isolators.volumes import label, of_type
from reconciler.runtime.referenced import read
from reconciler.spec.references import SECRET_LIMIT


class SecretIsolator(PassiveIsolator):
    name = "volume/secret"

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo:
        mounts, contents = {}, {}
        for number, content in secrets(config).items():
            role = f"secret-{number}"
            contents[role] = content
            step: dict[str, object] = {"op": "secret", "from": role, "as": label(number)}
            if config.owner is not None:
                step |= {"uid": config.owner[0], "gid": config.owner[1]}
            mounts[number] = Mount(label(number), (step,), file=True)
        return LaunchInfo(volumes=mounts, contents=contents)


def secrets(config: ContainerConfig) -> dict[int, bytes]:
    """What the volumes hold that are secrets, by their numbers. Raises Retryable."""
    return {
        number: read(config, f"volumes[{number}].source", volume.source or "", SECRET_LIMIT)
        for number, volume in of_type(config, "secret")
    }
