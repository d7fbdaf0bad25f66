"""What the amounts of a container's resources rule out in each other, (field, message, hint) each. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from reconciler.spec.executors import ExecutorResources
from reconciler.spec.model import DeviceRates, Resources
from reconciler.spec.quantities import BadQuantity, format_size, parse_size

_DEVICE = re.compile(r"/.+|[0-9]{1,8}:[0-9]{1,8}")
_COMPARED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("cpus", "cpus", lambda value: f"{value:g}"),
    ("memory", "memory", lambda value: format_size(int(value))),
    ("memory_swap", "memorySwap", lambda value: format_size(int(value))),
    ("pids", "pids", str),
    ("disk", "disk", lambda value: format_size(int(value))),
)


def violations(resources: Resources | ExecutorResources, path: str) -> Iterator[tuple[str, str, str]]:
    requests, limits = resources.requests, resources.limits
    given = {name for name in type(requests).model_fields if name in requests.model_fields_set}
    for name, alias, show in _COMPARED:
        request, limit = getattr(requests, name), getattr(limits, name)
        if name in given and request is not None and limit is not None and limit < request:
            yield f"{path}.limits.{alias}", f"{show(limit)} is below the request of {show(request)}", ""
    for part, amounts in (("requests", requests), ("limits", limits)):
        if amounts.memory_swap is not None and amounts.memory is None:
            yield f"{path}.{part}.memorySwap", "needs memory too: it counts memory and swap together", ""
        elif amounts.memory_swap is not None and amounts.memory is not None and amounts.memory_swap < amounts.memory:
            yield f"{path}.{part}.memorySwap", "is below memory, but counts memory and swap together", ""
        yield from _devices(amounts.io, f"{path}.{part}.io", requested=part == "requests")
        yield from _huge_pages(amounts.hugepages, f"{path}.{part}.hugepages")


def _huge_pages(amounts: Mapping[str, int], path: str) -> Iterator[tuple[str, str, str]]:
    seen: dict[int, str] = {}
    for page, amount in amounts.items():
        try:
            size = parse_size(page)
        except BadQuantity as bad:
            yield f"{path}.{page}", bad.message, bad.hint
            continue
        if size in seen:
            yield f"{path}.{page}", f"is the page size {seen[size]} again", ""
        seen.setdefault(size, page)
        if size and amount % size:
            yield f"{path}.{page}", f"{format_size(amount)} is no whole number of pages of {format_size(size)}", ""


def _devices(devices: Mapping[str, DeviceRates], path: str, *, requested: bool) -> Iterator[tuple[str, str, str]]:
    """Among the requests weights, for `default` too; among the limits rates."""
    for device, given in devices.items():
        where = f"{path}.{device}"
        if not _DEVICE.fullmatch(device) and not (requested and device == "default"):
            hint = 'such as /dev/vda or "254:0"' + (", or default for all others" if requested else "")
            yield where, "is no block device: a path that begins with /, or MAJ:MIN", hint
        for name, field in type(given).model_fields.items():
            if getattr(given, name) is not None and (name == "weight") is not requested:
                other = "requests" if name == "weight" else "limits"
                yield f"{where}.{field.alias or name}", f"belongs into {other}", f"resources.{other}.io.{device}"
            elif name != "weight" and getattr(given, name) == 1:  # tg_set_limit in block/blk-throttle.c
                yield f"{where}.{field.alias or name}", "cgroup v2 takes no rate below 2 per second", ""
        if all(value is None for _, value in given):
            yield where, "says nothing", "weight: 50" if requested else "readBps: 10Mi"
