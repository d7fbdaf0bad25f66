"""Ports of the host: who listens on one it was not given, TCP or UDP, is told so, or ended, under both launchers."""

from __future__ import annotations

import contextlib
import os
import re
import socket

from tests.e2e.checks import eventually, instance, not_restarted, plan_is_empty, state, until
from tests.e2e.world import World, document

SOON = {"network/ports": {"interval": "1s"}}
STRICT = {"network/ports": {"interval": "1s", "enforce": True, "range": "1024-65535"}}


def free(count: int) -> list[int]:
    """Ports that nobody has just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def unasked(count: int) -> list[int]:
    """UDP ports that nobody has, and that the kernel gives to no client."""
    found = []
    for port in range(20_000 + os.getpid() % 5000, 32_768):
        with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as tried:
            tried.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


def listening(port: int) -> str:
    return f"exec busybox httpd -f -p 127.0.0.1:{port}"


# two ports that it asks for, and one as a client has it, then: bound
DATAGRAMS = """
import socket, sys, time
held = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(3)]
for each, port in zip(held, (*sys.argv[1:], 0)):
    each.bind(("127.0.0.1", int(port)))
time.sleep(1000)
"""


def given(port: int) -> dict[str, object]:
    return {"ports": [{"host": port, "container": port}]}


def test_who_listens_on_a_port_that_is_not_its_own_is_reported_or_ended(any_world: World) -> None:
    """What is nested in a container, and around it, counts as given; a process nested in it is its own."""
    world = any_world
    own, side, rogue, caught = free(4)
    nested = [
        {"name": "side", "shell": listening(side), **given(side), "isolators": STRICT},
        {"name": "rogue", "shell": f"while [ ! -e go ]; do sleep 0.1; done; {listening(rogue)}"},
    ]
    world.write("web.yaml", document("web", shell=listening(own), isolators=SOON, containers=nested, **given(own)))
    caught_one = {"shell": listening(caught), "isolators": STRICT, "restartPolicy": "Never"}
    world.write("strict.yaml", document("strict", **caught_one))
    ours, strange = unasked(2)
    udp = {"ports": [{"host": ours, "container": ours, "protocol": "udp"}], "isolators": SOON}
    world.write("udp.yaml", document("udp", command=["python3", "-c", DATAGRAMS, str(ours), str(strange)], **udp))
    with world.agent():
        told = until(world, "udp", lambda row: "listens" in row["message"], "says so")["message"]
        assert re.search(rf"listens on 127.0.0.1:{strange}/udp \(process \d+\), which .* given to it: {ours}$", told), (
            told
        )
        row = state(world, "strict", "Failed")
        assert row["exit"]["reason"] == "PortNotGiven", row
        assert f"listens on 127.0.0.1:{caught} (process " in row["message"] and "none was given" in row["message"]
        web, quiet = instance(world, "web"), instance(world, "web.side")
        assert "listens" not in world.rows()["web"]["message"]
        (world.sandbox("web.rogue") / "go").touch()
        told = until(world, "web", lambda row: "listens" in row["message"], "says so")["message"]
        ours = ", ".join(map(str, sorted((own, side))))
        assert f"127.0.0.1:{rogue} (process " in told and f"given to it: {ours}" in told, told
        assert str(own) not in told.partition("given to it")[0]
        not_restarted(world, web)
        not_restarted(world, quiet)
        world.write("web.yaml", document("web", shell=listening(own), isolators=SOON, **given(own)))
        eventually(lambda: "listens" not in world.rows()["web"]["message"], "it is forgotten with its cause")
        plan_is_empty(world)
