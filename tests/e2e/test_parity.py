"""One spec with an image, natively and on an engine: seen from inside there is no difference."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import engine, images, processes, registry
from tests.e2e.checks import eventually, state
from tests.e2e.on_engine import live_on
from tests.e2e.world import World, document
from tests.images import directory, file, hard, link

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.cgroup,
    pytest.mark.skipif(bool(engine.missing()), reason=engine.missing()),
    pytest.mark.skipif(bool(registry.missing()), reason=registry.missing()),
]

# signals that are ignored are not compared: an engine passes on what it was started with
REPORT = """#!/bin/sh
echo "argv: $0 [$1] [$2] [$3]"
env | sort
echo "ids: $(id -u):$(id -g) $(id -G), umask $(umask), in $(pwd), host $(hostname)"
grep -E '^(NoNewPrivs|Seccomp|Cap.*|Groups|SigBlk):' /proc/self/status
find / -xdev -path /mnt -prune -o -type d -exec stat -c '%A %u:%g %n' {} + | grep -vE ' /(dev|proc|sys|sbin)$' | sort
find /etc /hidden /srv /report /way /tmp ! -type d -exec stat -c '%A %u:%g %h %s %n' {} + |
    grep -vE '/etc/(hosts|hostname|resolv.conf|mtab)$' | sort
cat /etc/motd
cd /srv/kept && ls && echo one >> file && cat file && cd - && grep -cE ' /srv/kept .*rw' /proc/mounts
stat -c '%A %u:%g %n' "$MESOS_SANDBOX"
touch "$MESOS_SANDBOX/mine" && echo writes in its sandbox
trap 'echo told to stop; exit 7' QUIT
echo ready
while :; do sleep 0.1; done
"""
LOWER = (
    file("etc/motd", "below"),
    file("etc/gone"),
    directory("hidden"),
    file("hidden/old"),
    directory("srv"),
    directory("srv/work", uid=1000, gid=1001),
    directory("srv/kept", 0o775, uid=1000, gid=1001),
    file("srv/kept/file", "zero\n", uid=1000),
    file("report", REPORT, 0o755),
)
UPPER = (
    file("etc/motd", "above\n", 0o640, gid=1001),
    file("etc/.wh.gone"),
    file("hidden/.wh..wh..opq"),
    file("hidden/new", "new", 0o4755),
    link("way", "hidden/new"),
    hard("hidden/same", "hidden/new", 0o4755),
    file("etc/group", "staff:x:50:web\nwebs:x:1001:\n"),
)
CONFIG = {
    "Entrypoint": ["/report", "of the image"],
    "Cmd": ["left out"],
    "Env": ["A=image", "B=image", "PATH=/bin:/usr/bin"],
    "WorkingDir": "/srv/work",
    "User": "web",
    "StopSignal": "SIGQUIT",
    "Volumes": {"/srv/kept": {}},
    "Healthcheck": {"Test": ["CMD", "grep", "-q", "zero", "/srv/kept/file"], "Interval": 5 * 10**8},
}


@pytest.fixture
def world(request: pytest.FixtureRequest, nursery: processes.Nursery, server: engine.Server) -> Iterator[World]:
    yield from live_on(request, nursery, server)


def said(world: World, name: str) -> list[str]:
    eventually(lambda: "ready" in world.reconciler("logs", name).stdout.splitlines(), f"{name} is ready", within=60)
    return world.reconciler("logs", name).stdout.splitlines()


def references(base: Path, host: str) -> dict[str, str]:
    """Of one image: in a layout, an archive, a registry."""
    layers = [images.base(), images.layer(*LOWER), images.layer(*UPPER)]
    registry.push(host, "team/twin", "1", Path(images.oci(base / "twin", layers, **CONFIG).partition(":")[2]))
    return {
        "layout": f"oci:{base}/twin",
        "saved": images.docker_archive(base / "saved.tar", layers, **CONFIG),
        "registry": f"{host}/team/twin:1",
    }


def test_one_spec_runs_alike_natively_and_on_an_engine(world: World) -> None:
    spec = {"args": ["a b", "$A"], "env": {"B": "spec", "C": ""}, "hostname": "twin"}
    with registry.running(world.base / "registry", guarded=True) as host:
        auth = world.base / "auth.json"
        auth.write_text(json.dumps({"auths": {host: {"auth": registry.SECRET}}}))
        found = references(world.base, host)
        for name, reference in found.items():
            for kind in ("mesos", "docker"):
                image = {"reference": reference}
                world.write(f"{name}-{kind}.yaml", document(f"{name}-{kind}", type=kind, image=image, **spec))
        with world.agent("--registry-auth", str(auth)):
            first = said(world, "layout-mesos")
            assert first[0] == "argv: /report [of the image] [a b] [$A]"
            assert {"A=image", "B=spec", "C=", "above", "writes in its sandbox"} <= set(first)
            for name in found:
                for kind in ("mesos", "docker"):
                    got = said(world, f"{name}-{kind}")
                    assert got == first, "\n".join(difflib.unified_diff(first, got, "natively", f"{name}-{kind}"))
            for name in ("layout-mesos", "layout-docker"):
                world.succeed("wait", name, "--for", "ready", "--timeout", "20s")
                assert "readiness image: command grep" in world.succeed("status", name)
                world.succeed("suspend", name)
                assert state(world, name, "Suspended")["exit"]["code"] == 7
