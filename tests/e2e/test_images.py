"""Containers from images, through the command line: provided first, listed, pruned, and gone without a trace."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from tests import images, registry
from tests.e2e.checks import (
    eventually,
    gone,
    instance,
    message_contains,
    not_restarted,
    plan_is_empty,
    restarted,
    state,
    until,
)
from tests.e2e.world import World, document, sleeper
from tests.registry import Answering

pytestmark = [pytest.mark.root, pytest.mark.cgroup]


def boxed(name: str, reference: str, **spec: object) -> str:
    backoff = {"initial": "100ms", "max": "300ms"}
    return document(name, image={"reference": reference}, command=["sleep", "infinity"], backoff=backoff, **spec)


def made(world: World, name: str, *entries: images.Entry) -> str:
    return images.oci(world.base / name, [images.base(), images.layer(*entries)], Entrypoint=["sleep"], Cmd=["1000"])


def listed(world: World) -> dict[str, list[str]]:
    return {each["reference"]: each["usedBy"] for each in json.loads(world.succeed("images", "-o", "json"))}


def layers(world: World) -> int:
    return len(list((world.root / "images/layers").iterdir()))


def test_an_image_comes_before_what_runs_is_ended_for_it(world: World) -> None:
    """A bad reference ends nothing; a good one restarts; the agent's death disturbs nothing."""
    one, two = made(world, "one"), made(world, "two", images.file("etc/new", "x"))
    world.write("web.yaml", boxed("web", one))
    with world.agent() as agent:
        web = instance(world, "web")
        assert (Path(f"/proc/{web.pid}/root/etc/passwd")).read_text().startswith("root:x:0:0")
        plan_is_empty(world)
        world.write("web.yaml", boxed("web", f"oci:{world.base}/missing"))
        assert message_contains(world, "web", "No such file")["reason"] == "ImageUnavailable"
        not_restarted(world, web)
        world.write("web.yaml", boxed("web", two))
        web = restarted(world, web, by="image.reference")
        assert (Path(f"/proc/{web.pid}/root/etc/new")).read_text() == "x"
        agent.kill()
    with world.agent():
        not_restarted(world, web)
        plan_is_empty(world)


def test_what_nobody_uses_is_pruned_and_what_somebody_uses_stays(world: World) -> None:
    one, two = made(world, "one", images.file("one")), made(world, "two", images.file("two"))
    world.write("web.yaml", boxed("web", one))
    world.write("job.yaml", sleeper("job", volumes=[{"type": "image", "source": two, "target": "two"}]))
    with world.agent():
        web = instance(world, "web")
        job = instance(world, "job")
        assert listed(world) == {one: ["web"], two: ["job"]} and layers(world) == 3
        world.succeed("prune-images")
        assert layers(world) == 3
        world.delete("job.yaml")
        gone(world, "job", job)
    with world.agent("--image-disk-headroom", "0.999999"):  # of which there is always too little: it does so by itself
        eventually(lambda: listed(world) == {one: ["web"]}, "what nobody uses is gone", seen=lambda: listed(world))
        assert layers(world) == 2 and two in world.succeed("events")
        not_restarted(world, web)
    world.succeed("destroy", "--all")
    assert listed(world) == {one: []}
    assert world.succeed("prune-images").split() == [one] and layers(world) == 0


def test_an_images_health_check_withholds_ready_and_the_specs_own_replaces_it(world: World) -> None:
    """Made by the next agent too, and never a reason to restart."""
    test = {"Test": ["CMD-SHELL", "test -e /tmp/up"], "Interval": 2 * 10**8, "Retries": 1}
    image = images.oci(world.base / "box", [images.base()], Healthcheck=test, Entrypoint=["sleep"], Cmd=["1000"])
    world.write("web.yaml", boxed("web", image))
    with world.agent() as agent:
        web = instance(world, "web")
        up = Path(f"/proc/{web.pid}/root/tmp/up")
        message_contains(world, "web", "readiness check image: command /bin/sh -> exited with code 1")
        assert world.rows()["web"]["ready"] is False
        up.touch()
        world.succeed("wait", "web", "--for", "ready", "--timeout", "20s")
        plan_is_empty(world)
        agent.kill()
    with world.agent():
        up.unlink()
        state(world, "web", "Unhealthy")
        own = {"role": "readiness", "command": ["true"], "delay": "0s", "interval": "200ms"}
        world.write("web.yaml", boxed("web", image, healthChecks=[own]))
        world.succeed("wait", "web", "--for", "ready", "--timeout", "20s")
        assert "check image" not in world.succeed("status", "web")
        not_restarted(world, web)
        (world.specs / "web.yaml").unlink()
        gone(world, "web", web)
        unchecked = document("web", image={"reference": image, "healthCheck": False}, command=["sleep", "infinity"])
        world.write("web.yaml", unchecked)
        assert state(world, "web", "Running")["ready"] is True


def test_a_pull_shows_how_far_it_is_and_others_wait_for_it(world: World) -> None:
    images.oci(world.base / "box", [images.base(), images.layer(images.file("big", os.urandom(4 << 20)))])
    go = threading.Event()

    def halts(answer: Answering, body: bytes) -> None:
        answer.send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
        go.wait(60)
        answer.wfile.write(body[len(body) // 2 :])

    with registry.stub(world.base / "box") as server:
        last, reference = server.layers()[-1], f"localhost:{server.port}/box"
        server.faults[last] = halts
        for name in ("web", "other"):
            world.write(f"{name}.yaml", boxed(name, reference))
        with world.agent():
            for name in ("web", "other"):
                row = message_contains(world, name, "of 5 MiB")
                assert row["status"] == "Pulling"
            assert "of 5 MiB" in world.succeed("status", "web")
            go.set()
            for name in ("web", "other"):
                instance(world, name)
        assert sum(path.endswith(last) for _, path, _, _ in server.asked) == 1


def test_what_is_asked_for_changes_in_the_middle_of_a_pull(world: World) -> None:
    """Back to what runs, to another image, to nothing at all: each at once, and of the pull nothing is left."""
    one, two = made(world, "one"), made(world, "two", images.file("etc/new", "x"))
    images.oci(world.base / "box", [images.base(), images.layer(images.file("big", os.urandom(1 << 20)))])
    go = threading.Event()

    def halts(answer: Answering, body: bytes) -> None:
        answer.send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})
        go.wait(60)
        answer.close_connection = True

    with registry.stub(world.base / "box") as server:
        server.faults[server.layers()[-1]] = halts
        slow = f"localhost:{server.port}/box"
        world.write("web.yaml", boxed("web", one))
        with world.agent():
            web = instance(world, "web")
            for wanted in (one, one, one, one, two):  # more than pull at a time
                world.write("web.yaml", boxed("web", slow))
                message_contains(world, "web", "pulling")
                not_restarted(world, web)
                world.write("web.yaml", boxed("web", wanted))
                until(world, "web", lambda row: "pulling" not in row["message"], "the pull is given up")
            web = restarted(world, web, by="image.reference")
            assert Path(f"/proc/{web.pid}/root/etc/new").exists()
            world.write("other.yaml", boxed("other", slow))
            message_contains(world, "other", "pulling")
            world.delete("other.yaml")
            eventually(lambda: "other" not in world.rows(), "it is not shown any more", seen=world.rows)
            plan_is_empty(world)
            assert listed(world).keys() == {one, two}
            go.set()
            tmp = world.root / "images/tmp"
            eventually(lambda: not list(tmp.iterdir()), "nothing half done is left", seen=lambda: list(tmp.rglob("*")))


def test_what_names_no_image_is_refused_beforehand(world: World) -> None:
    world.write("web.yaml", boxed("web", "oci:relative"))
    world.write("plain.yaml", sleeper("plain"))
    said = world.reconciler("plan", world.specs)
    assert said.returncode == 1 and "absolute one of the host" in said.stdout + said.stderr
