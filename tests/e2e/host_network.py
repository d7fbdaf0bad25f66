"""A world whose host's network is a network namespace of its own: whatever is in it is ours, or was there before."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests import processes
from tests.e2e import conftest
from tests.e2e.checks import eventually
from tests.e2e.world import World

_SEEN = (
    "ip -o link",
    "ip -o addr",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule",
    "ip -6 rule",
    "nft -s list ruleset",
)


class HostNetwork(World):
    """holder: a process whose network namespace stands for the host's."""

    def __init__(self, nursery: processes.Nursery, holder: int) -> None:
        super().__init__(nursery, within=("nsenter", f"--net=/proc/{holder}/ns/net", "--"))

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """In what stands for the host's network."""
        return self.nursery.run([*self.within, *command])

    def links(self) -> list[str]:
        """All but `lo`."""
        found = json.loads(self.inside("ip", "-j", "link").stdout)
        return [each["ifname"] for each in found if each["ifname"] != "lo"]

    def network(self) -> list[str]:
        """Each link, address, route and rule of it."""
        return [line for command in _SEEN for line in self.inside(*command.split()).stdout.splitlines()]

    def answers(self, url: str) -> None:
        asked = f"import urllib.request as u; print(u.urlopen('{url}', timeout=5).status)"
        eventually(lambda: "200" in self.inside("python3", "-c", asked).stdout, f"{url} answers", within=20)


@contextlib.contextmanager
def holder(nursery: processes.Nursery) -> Iterator[int]:
    """The pid of a process with a network namespace of its own, in which `lo` is up."""
    process, ours = nursery.spawn(["unshare", "--net", "sleep", "infinity"]), processes.namespace(os.getpid(), "net")
    try:
        eventually(lambda: processes.namespace(process.pid, "net") != ours, "it has a network of its own")
        nursery.run(["nsenter", f"--net=/proc/{process.pid}/ns/net", "--", "ip", "link", "set", "lo", "up"])
        yield process.pid
    finally:
        process.kill()
        process.wait()


def live(
    request: pytest.FixtureRequest, nursery: processes.Nursery, make: Callable[[processes.Nursery, int], World]
) -> Iterator[World]:
    """Such a world, from its making to the leak check."""
    with holder(nursery) as pid:
        yield from conftest.live(request.node, lambda: make(nursery, pid))
