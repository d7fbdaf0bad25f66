"""What a network costs a launch: the same container with a network namespace of its own, bare and on the bridge.

    bare     namespaces: {network: private}                              lo, nothing else
    bridge   the same with networks: [{name: bridge}]                    beside another that is on it already
    alone    as bare, of an agent that has no bridge
    first    as bridge, of that agent: the bridge comes and goes with it

In turns, and each after a rest: the kernel takes a namespace down after its container has gone, and whoever makes or
changes a link then waits for it. What is asked for is the difference of the medians.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from tests.bench import bundle, table
from tests.bench.bell import Bell
from tests.bench.launches import Launch, Warm, in_turns

BARE, BRIDGE = "private, nothing in it", "private, on the bridge"
ALONE, FIRST = "private, nothing in it, no bridge", "private, first on the bridge"
AT_MOST = 3.0  # milliseconds more
REST = 0.9  # seconds, in which a bridge that nobody is on any more has gone, too
PRIVATE = {"namespaces": {"network": "private"}}
CONNECTED = {**PRIVATE, "networks": [{"name": "bridge"}]}


def measure(base: Path, count: int) -> None:
    rootfs = base / "rootfs"
    bundle.make_rootfs(rootfs)
    bell = Bell(rootfs / bundle.BELL)
    beside, alone = Warm(base / "beside", rootfs, bell), Warm(base / "alone", rootfs, bell)

    def rested(launch: Launch) -> Launch:
        def after_a_rest(name: str) -> float:
            time.sleep(REST)
            return launch(name)

        return after_a_rest

    try:
        beside.launch("neighbour", stays=True, **CONNECTED)
        kinds: dict[str, Launch] = {
            BARE: rested(partial(beside.launch, **PRIVATE)),
            BRIDGE: rested(partial(beside.launch, **CONNECTED)),
            ALONE: rested(partial(alone.launch, **PRIVATE)),
            FIRST: rested(partial(alone.launch, **CONNECTED)),
        }
        found = in_turns(kinds, count, [], needed=BARE)
    finally:
        alone.close()
        beside.close()
        bell.close()
    table.heading("launch to payload, milliseconds", "n", "min", "p50", "p95", "to bare")
    for each in found.values():
        table.show(each, found[BARE])
    for kind, bare in ((BRIDGE, BARE), (FIRST, ALONE)):
        table.goal_of_more(f"{kind}, over {bare}", found[kind].median - found[bare].median, AT_MOST)
