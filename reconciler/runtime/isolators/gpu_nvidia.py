"""Isolator `gpu/nvidia`: whole GPUs for containers that ask for some, `isolators: {gpu/nvidia: {gpus: 2}}`.

    /proc/driver/nvidia/gpus/*/information ─▶ given out, none twice ─▶ RUNTIME/containers/<name>/gpus.json
                                                                    ─▶ /dev/nvidia<minor> and the control devices

Who has which is in these files alone, so a later agent knows it too; a file goes with its run. A nested container is
given of those that the nearest container around it with GPUs has, and siblings none of the same. The driver's
libraries are not brought along: mount them, or have them in the image. After Mesos's isolator of that name.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from reconciler.errors import Retryable, Terminal
from reconciler.runtime import durable
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators import options
from reconciler.runtime.isolators.cgroups_devices import Rule
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, PassiveIsolator, Support
from reconciler.runtime.isolators.linux_devices import Node, mounts
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec

_FILE = "gpus.json"
_CONTROL = "nvidiactl"
_MORE = ("nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")


@dataclass(frozen=True, slots=True)
class Gpu:
    """minor: of its node /dev/nvidia<minor>."""

    minor: int
    uuid: str
    model: str


@dataclass(frozen=True, slots=True)
class Where:
    """The directories that the driver shows itself in."""

    dev: Path = Path("/dev")
    driver: Path = Path("/proc/driver/nvidia")

    def gpus(self) -> list[Gpu]:
        """Those with a node, by minor number."""
        found = (_parsed(path.read_text()) for path in self.driver.glob("gpus/*/information"))
        return sorted(
            (gpu for gpu in found if gpu is not None and (self.dev / f"nvidia{gpu.minor}").exists()),
            key=lambda gpu: gpu.minor,
        )

    def control(self) -> list[str]:
        return [name for name in (_CONTROL, *_MORE) if (self.dev / name).exists()]


HOST = Where()


def _parsed(text: str) -> Gpu | None:
    """`information` of a GPU: lines "Device Minor: \\t 0"."""
    fields = dict(re.findall(r"^([^:\n]+):[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    minor = fields.get("Device Minor", "")
    return Gpu(int(minor), fields.get("GPU UUID", ""), fields.get("Model", "")) if minor.isdecimal() else None


class NvidiaIsolator(PassiveIsolator):
    name = "gpu/nvidia"
    options = MappingProxyType({"gpus": options.count})

    def __init__(self, runtime_dir: Path, where: Where | None = None) -> None:
        self._containers = runtime_dir / "containers"
        self._where = where or HOST
        self._giving = threading.Lock()

    def support(self) -> Support:
        gpus, control = self._where.gpus(), self._where.control()
        if not gpus or _CONTROL not in control:
            why = f"no GPU is in {self._where.driver}/gpus, or no {_CONTROL} in {self._where.dev}"
            return Support(Level.NOT_HERE, f"{why}; it needs the driver of NVIDIA, loaded")
        models = ", ".join(f"{gpu.model or 'GPU'} ({self._where.dev}/nvidia{gpu.minor})" for gpu in gpus)
        if lacking := [name for name in _MORE[:1] if name not in control]:
            return Support(Level.PARTLY, f"{models}; without {lacking[0]}, which CUDA needs (nvidia-modprobe -u -c 0)")
        return Support(Level.WORKS, models)

    def refuses(self, spec: ContainerSpec) -> list[str]:
        asked = _asked(spec)
        if not asked:
            return []
        support, there = self.support(), len(self._where.gpus())
        field = f"spec.isolators.{self.name}.gpus"
        if support.level is Level.NOT_HERE:
            return [f"{field}: {asked} cannot be had: {support.why}"]
        return [f"{field}: {asked} are asked for, this host has {there}"] if asked > there else []

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        count = options.read(config.spec, self).get("gpus", 0)
        if not count:
            return None
        with self._giving:
            gpus = self._give(config.name, count)
            minors = json.dumps([gpu.minor for gpu in gpus]).encode()
            durable.replace(context.runtime_dir / _FILE, minors, sync=False)
        nodes = list(self._nodes(config, [gpu.minor for gpu in gpus]))
        visible = ",".join(gpu.uuid or str(gpu.minor) for gpu in gpus)
        return LaunchInfo(nodes=mounts(config, context, nodes, "gpu"), env={"NVIDIA_VISIBLE_DEVICES": visible})

    def rules(self, config: ContainerConfig, context: Context) -> tuple[Rule, ...]:
        minors = self._given().get(config.name, [])
        return tuple(node.rule() for node in self._nodes(config, minors)) if minors else ()

    def cleanup(self, context: Context) -> None:
        (context.runtime_dir / _FILE).unlink(missing_ok=True)

    def _give(self, name: str, count: int) -> list[Gpu]:
        """Raises Retryable while others have them."""
        given = {other: minors for other, minors in self._given().items() if other != name}
        free = choose(name, [gpu.minor for gpu in self._where.gpus()], given)
        if len(free) < count:
            others = ", ".join(sorted(other for other in given if not name.startswith(other + ".")))
            message = f"{name}: {count} GPUs are asked for, {len(free)} are free; {others or 'nobody'} has the others"
            raise Retryable(message, Reason.LAUNCH_FAILED)
        return [gpu for gpu in self._where.gpus() if gpu.minor in free[:count]]

    def _given(self) -> dict[str, list[int]]:
        """Container → minor numbers, of all that have some."""
        found = {}
        for path in self._containers.glob(f"*/{_FILE}"):
            try:
                found[path.parent.name] = json.loads(path.read_bytes())
            except FileNotFoundError:
                continue  # given back just now
            except ValueError as error:
                raise Retryable(f"{path} cannot be read, so who has which GPU is not known: {error}") from error
        return found

    def _nodes(self, config: ContainerConfig, minors: list[int]) -> Iterator[Node]:
        """They appear where programs look for them."""
        for name in (*(f"nvidia{minor}" for minor in minors), *self._where.control()):
            yield Node.found(str(self._where.dev / name), f"/dev/{name}" if config.rootfs is not None else None, "rwm")


def choose(name: str, present: list[int], given: Mapping[str, list[int]]) -> list[int]:
    """Minor numbers that the container can be given. Pure. Raises Terminal where nobody around a nested one has any."""
    around = [other for other in given if name.startswith(other + ".")]
    nearest = max(around, key=len, default="")
    if "." in name and not nearest:
        raise Terminal(
            f"{name}: what is around it has no GPUs to give; let its parent ask for them", Reason.INVALID_SPEC
        )
    pool = given[nearest] if nearest else present
    inside = f"{nearest}." if nearest else ""
    taken = {minor for other, minors in given.items() if other.startswith(inside) and other != name for minor in minors}
    return [minor for minor in pool if minor in present and minor not in taken]


def _asked(spec: ContainerSpec) -> int:
    given = spec.isolators.get(NvidiaIsolator.name, {}).get("gpus", 0)
    return given if isinstance(given, int) else 0
