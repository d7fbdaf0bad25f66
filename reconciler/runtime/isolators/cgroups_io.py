"""Isolator `cgroups/io`: how fast a container may use a disk, its share of a busy one, and what it has used.

v2's `io` (cgroup-v2.rst) limits a container and what is nested in it together, and knows who wrote what the page cache
writes back later. v1's `blkio` (blkio-controller.rst) knows neither: only what a process does itself counts, that is
reads, O_DIRECT and sync; and each cgroup is limited by itself, so that those nested in one are given its limits where
these are tighter than their own. Who weighs is the scheduler BFQ (bfq-iosched.rst), on v2 iocost too.
"""

from __future__ import annotations

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Retryable, Terminal, Unsupported
from reconciler.runtime.containerizer import OF_DISK, Usage
from reconciler.runtime.isolators.controllers import ControllerIsolator, Place, refuse_without
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, Level, Support
from reconciler.runtime.kernel import block_devices
from reconciler.runtime.kernel.cgroups import ControlError
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.spec.model import ContainerSpec, DeviceRates, ResourceAmounts

LIMITS, REQUESTS = "resources.limits.io", "resources.requests.io"
DEFAULT = "default"
"""Among the devices of a request: every other one."""
DEFAULT_WEIGHT = 100

KINDS = ("read_bps", "write_bps", "read_iops", "write_iops")
COUNTS = ("read_bytes", "written_bytes", "reads", "writes")

Rates = tuple[int | None, ...]
"""In the order of KINDS; None: unlimited."""
Limits = Mapping[str, Rates]
"""MAJ:MIN → rates, of the devices that have any."""
UNLIMITED: Rates = (None,) * len(KINDS)


def bfq_weight(weight: int) -> int:
    """1 to 10000 on BFQ's scale of 1 to 1000, the default of 100 being that of both."""
    if weight <= DEFAULT_WEIGHT:
        return weight
    return DEFAULT_WEIGHT + (weight - DEFAULT_WEIGHT) * 900 // 9900


def tighter(one: Rates, other: Rates) -> Rates:
    return tuple(
        min((rate for rate in pair if rate is not None), default=None) for pair in zip(one, other, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Weights:
    """default, device: files; word: what precedes the default in its file; bfq: on BFQ's scale."""

    default: str
    device: str
    word: str
    bfq: bool

    def number(self, weight: int) -> int:
        return bfq_weight(weight) if self.bfq else weight


class _Files(ABC):
    """shared: a limit holds for what is nested too."""

    shared: bool
    weights: tuple[_Weights, ...]

    @abstractmethod
    def limits(self, place: Place[_Files]) -> Limits: ...

    @abstractmethod
    def limit(self, place: Place[_Files], device: str, rates: Rates) -> None: ...

    @abstractmethod
    def used(self, place: Place[_Files]) -> Mapping[str, tuple[int, ...]]:
        """MAJ:MIN → figures in the order of COUNTS, nested containers' included."""


class _V1(_Files):
    shared = False
    weights = (_Weights("blkio.bfq.weight", "blkio.bfq.weight_device", "", bfq=True),)
    _LIMITS = tuple(f"blkio.throttle.{kind}_device" for kind in KINDS)
    _BYTES, _COUNT = (f"blkio.throttle.io_service{what}_recursive" for what in ("_bytes", "d"))
    _USED = ((_BYTES, "Read"), (_BYTES, "Write"), (_COUNT, "Read"), (_COUNT, "Write"))

    def limits(self, place: Place[_Files]) -> Limits:
        found: dict[str, list[int | None]] = {}
        for at, file in enumerate(self._LIMITS):
            for device, rate in re.findall(r"^(\S+) (\d+)$", place.text(file), re.MULTILINE):
                found.setdefault(device, list(UNLIMITED))[at] = int(rate)
        return {device: tuple(rates) for device, rates in found.items()}

    def limit(self, place: Place[_Files], device: str, rates: Rates) -> None:
        for file, rate in zip(self._LIMITS, rates, strict=True):
            place.write(file, f"{device} {rate or 0}")

    def used(self, place: Place[_Files]) -> Mapping[str, tuple[int, ...]]:
        found: dict[str, list[int]] = {}
        for at, (file, way) in enumerate(self._USED):
            for device, count in re.findall(rf"^(\S+) {way} (\d+)$", place.text(file), re.MULTILINE):
                found.setdefault(device, [0] * len(COUNTS))[at] = int(count)
        return {device: tuple(counts) for device, counts in found.items()}


class _V2(_Files):
    shared = True
    weights = (
        _Weights("io.bfq.weight", "io.bfq.weight", "default ", bfq=True),
        _Weights("io.weight", "io.weight", "default ", bfq=False),
    )
    _LIMITS = ("rbps", "wbps", "riops", "wiops")
    _USED = ("rbytes", "wbytes", "rios", "wios")

    def limits(self, place: Place[_Files]) -> Limits:
        return {
            device: tuple(int(value) if (value := keys.get(key, "max")) != "max" else None for key in self._LIMITS)
            for device, keys in _nested_keyed(place.text("io.max"))
        }

    def limit(self, place: Place[_Files], device: str, rates: Rates) -> None:
        pairs = zip(self._LIMITS, rates, strict=True)
        words = " ".join(f"{key}={'max' if rate is None else rate}" for key, rate in pairs)
        place.write("io.max", f"{device} {words}")

    def used(self, place: Place[_Files]) -> Mapping[str, tuple[int, ...]]:
        return {
            device: tuple(int(keys.get(key, 0)) for key in self._USED)
            for device, keys in _nested_keyed(place.text("io.stat"))
        }


def _nested_keyed(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Lines `MAJ:MIN key=value …`."""
    for line in text.splitlines():
        device, *words = line.split()
        yield device, dict(word.split("=", 1) for word in words if "=" in word)


_FILES: Mapping[int, _Files] = {1: _V1(), 2: _V2()}


class IoIsolator(ControllerIsolator):
    name = "cgroups/io"
    controllers = frozenset({"blkio"})

    def support(self) -> Support:
        support, hierarchy = super().support(), self.map.hierarchy_of("blkio")
        if hierarchy is None:
            return support
        lacking = []
        if hierarchy.version == 1:
            lacking.append(
                "cgroup v1 limits each container by itself, not together with those nested in it, and neither limits "
                "nor counts what is written through the page cache; cgroup v2 does"
            )
        if not block_devices.scheduled_by("bfq"):
            lacking.append("weights have no effect: no disk is scheduled by bfq (/sys/block/DISK/queue/scheduler)")
        return Support(Level.PARTLY, "; ".join(lacking)) if lacking else support

    def refuses(self, spec: ContainerSpec) -> list[str]:
        found, hierarchy = [], self.map.hierarchy_of("blkio")
        for field, devices in ((LIMITS, spec.resources.limits.io), (REQUESTS, spec.resources.requests.io)):
            for device in devices.keys() - {DEFAULT}:
                try:
                    number = block_devices.disk(device)
                except ValueError as error:
                    found.append(f"spec.{field}: {error}")
                except OSError:
                    continue  # it may come yet
                else:  # whether there is iocost on v2 is seen in a container's own cgroup alone
                    weighed = hierarchy is None or hierarchy.version == 2 or block_devices.scheduler(number) == "bfq"
                    if field == REQUESTS and not weighed:
                        found.append(f"spec.{_unweighed(device, number)}")
        return found

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        """A new cgroup has no limits and the default weight; but on v1 its parent's limits are to be its own."""
        resources, hierarchy = config.spec.resources, self.map.hierarchy_of("blkio")
        alone = hierarchy is None or _FILES[hierarchy.version].shared or config.spec.parent is None
        if alone and not resources.limits.io and not resources.requests.io:
            return None
        return super().prepare(config, context)

    def update(self, context: Context, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        place = self.place(context, "blkio", _FILES)
        if place is None:
            for field, devices in ((LIMITS, limits.io), (REQUESTS, requests.io)):
                refuse_without("blkio", field, ", ".join(devices) or None)
            return
        wanted = {device: _rates(each) for device, each in _by_number(limits.io, LIMITS).items()}
        if not place.files.shared and "." in context.name:
            above = place.files.limits(Place(str(Path(place.directory).parent), place.files))
            wanted = {
                each: tighter(wanted.get(each, UNLIMITED), above.get(each, UNLIMITED)) for each in {*wanted, *above}
            }
        old = place.files.limits(place)
        _limit(place, old, wanted)
        if not place.files.shared:
            _hand_down(place, old, wanted)
        self._weigh(place, requests)

    def _weigh(self, place: Place[_Files], requests: ResourceAmounts) -> None:
        general = requests.io.get(DEFAULT)
        weight = DEFAULT_WEIGHT if general is None or general.weight is None else general.weight
        others = {device: each for device, each in requests.io.items() if device != DEFAULT}
        wanted = {device: each.weight for device, each in _by_number(others, REQUESTS).items()}
        there = [each for each in place.files.weights if place.text(each.default)]
        if not there:
            if requests.io:
                raise Unsupported(f"{REQUESTS}: this kernel weighs no cgroups on disks, it has neither BFQ nor iocost")
            return
        taken = dict.fromkeys(wanted, False)
        for each in there:
            if place.text(each.default).splitlines()[0].removeprefix("default ") != str(each.number(weight)):
                place.write(each.default, f"{each.word}{each.number(weight)}")
            weighed = dict(re.findall(r"^(\d+:\d+) (\d+)$", place.text(each.device), re.MULTILINE))
            for device in weighed.keys() - wanted.keys():
                place.write(each.device, f"{device} default")
            for device, share in wanted.items():
                taken[device] |= _weigh_on(place, each, device, share or DEFAULT_WEIGHT)
        for device, done in taken.items():
            if not done:
                raise Unsupported(_unweighed(device, device))

    def usage(self, context: Context) -> Usage:
        """Of all devices together, and of each."""
        place = self.place(context, "blkio", _FILES)
        if place is None:
            return {}
        used, figures = place.files.used(place), dict[str, int | float | None]()
        for at, what in enumerate(COUNTS):
            figures[f"io_{what}"] = sum(counts[at] for counts in used.values())
        for device, counts in used.items():
            figures |= {f"{OF_DISK}{device}.{what}": count for what, count in zip(COUNTS, counts, strict=True)}
        for device, rates in place.files.limits(place).items():
            figures |= {f"{OF_DISK}{device}.{kind}_limit": rate for kind, rate in zip(KINDS, rates, strict=True)}
        return figures


def _unweighed(device: str, number: str) -> str:
    scheduler = block_devices.scheduler(number) or "none"
    return f"{REQUESTS}: {device} is scheduled by {scheduler}, which weighs nothing; bfq does"


def _rates(given: DeviceRates) -> Rates:
    return tuple(getattr(given, kind) for kind in KINDS)


def _by_number(devices: Mapping[str, DeviceRates], field: str) -> dict[str, DeviceRates]:
    found: dict[str, DeviceRates] = {}
    names: dict[str, str] = {}
    for device, given in devices.items():
        try:
            number = block_devices.disk(device)
        except ValueError as error:
            raise Terminal(f"{field}: {error}", Reason.INVALID_SPEC) from None
        except OSError as error:
            raise Retryable(f"{field}: {device}: {error.strerror}; it is waited for", Reason.LAUNCH_FAILED) from error
        if number in names:
            raise Terminal(f"{field}: {names[number]} and {device} are one device, {number}", Reason.INVALID_SPEC)
        found[number], names[number] = given, device
    return found


def _limit(place: Place[_Files], old: Limits, wanted: Limits) -> None:
    for device in old.keys() | wanted.keys():
        if (rates := wanted.get(device, UNLIMITED)) != old.get(device, UNLIMITED):
            place.files.limit(place, device, rates)


def _hand_down(place: Place[_Files], old: Limits, new: Limits) -> None:
    """v1: what is nested follows where it had the same, and is at most as fast where it had its own."""
    with os.scandir(place.directory) as entries:
        below = [Place(entry.path, place.files) for entry in entries if entry.is_dir(follow_symlinks=False)]
    for each in below:
        its = each.files.limits(each)
        now = {
            device: tuple(
                to if own == was else tighter((own,), (to,))[0]
                for own, was, to in zip(
                    *(table.get(device, UNLIMITED) for table in (its, old, new)),
                    strict=True,
                )
            )
            for device in its.keys() | old.keys() | new.keys()
        }
        _limit(each, its, now)
        _hand_down(each, its, now)


def _weigh_on(place: Place[_Files], weights: _Weights, device: str, weight: int) -> bool:
    """False: not that device."""
    try:
        place.write(weights.device, f"{device} {weights.number(weight)}")
    except ControlError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    return True
