"""Lists of CPUs as the kernel writes them, "0-3,7" (cpuset(7), list format), and which are online."""

from __future__ import annotations

from collections.abc import Set

MOST = 8192  # no kernel is built for more (CONFIG_NR_CPUS)


def parse(text: str) -> frozenset[int]:
    """What is beyond `MOST` counts as that one, which no machine has; a range the wrong way round is empty."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(min(int(first), MOST), min(int(last or first), MOST) + 1))
    return frozenset(found)


def listed(cpus: Set[int]) -> str:
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def online() -> frozenset[int]:
    with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
        return parse(file.read())


def mask(cpus: Set[int]) -> int:
    """CPU n is bit n."""
    return sum(1 << cpu for cpu in cpus)


def of_mask(bits: int) -> frozenset[int]:
    return frozenset(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)
