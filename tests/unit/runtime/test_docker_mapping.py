"""What a spec is in an engine's words, and what an engine's words are in ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.docker import mapping, reading
from reconciler.runtime.docker.image_names import name_of
from reconciler.runtime.docker.refusals import refusals
from reconciler.spec.model import ContainerSpec, Image
from reconciler.states import Reason


def config(**spec: Any) -> ContainerConfig:
    made = ContainerSpec(name="web", type="docker", image=Image(reference="box:1"), **spec)
    return ContainerConfig(made, "1:abc", Path("/state/web/sandbox"), Path("/state/web/logs"))


def body(**spec: Any) -> dict[str, Any]:
    return mapping.body("owner", config(**spec), {}, Path("/nowhere"))


@pytest.mark.parametrize(
    ("spec", "argv"),
    [
        ({}, {}),
        ({"args": ["-v"]}, {"Cmd": ["-v"]}),
        ({"command": ["httpd", "-f"], "args": ["-v"]}, {"Entrypoint": ["httpd"], "Cmd": ["-f", "-v"]}),
        ({"shell": "exec httpd"}, {"Entrypoint": ["/bin/sh", "-c", "exec httpd"], "Cmd": []}),
        ({"shell": "echo $1", "args": ["a"]}, {"Entrypoint": ["/bin/sh", "-c", "echo $1"], "Cmd": ["sh", "a"]}),
    ],
)
def test_a_command_takes_the_place_of_the_entrypoint(spec: dict[str, Any], argv: dict[str, Any]) -> None:
    made = body(**spec)
    assert {key: made[key] for key in ("Entrypoint", "Cmd") if key in made} == argv


@pytest.mark.parametrize(
    ("namespaces", "modes"),
    [
        ({}, ("host", "", "private", "host", "private")),
        ({"network": "private"}, ("none", "", "private", "", "private")),
        ({"pid": "host", "ipc": "host", "cgroup": "host"}, ("host", "host", "host", "host", "host")),
        ({"uts": "private"}, ("host", "", "private", "", "private")),
    ],
)
def test_namespaces_are_as_the_table_says(namespaces: dict[str, str], modes: tuple[str, ...]) -> None:
    host = body(namespaces=namespaces)["HostConfig"]
    assert tuple(host[f"{kind}Mode"] for kind in ("Network", "Pid", "Ipc", "UTS", "Cgroupns")) == modes


def test_a_private_uts_namespace_has_a_name() -> None:
    assert body(hostname="shop", namespaces={"network": "private"})["Hostname"] == "shop"
    assert body(namespaces={"uts": "private"})["Hostname"] == "web"
    assert "Hostname" not in body()


def test_limits_and_what_is_given_back_when_they_go() -> None:
    limited = config(resources={"limits": {"memory": 1 << 26, "cpus": 0.5, "pids": 9}, "requests": {"cpus": 2}})
    host = mapping.body("owner", limited, {}, Path("/nowhere"))["HostConfig"]
    found = {key: host[key] for key in ("Memory", "MemorySwap", "CpuQuota", "CpuPeriod", "CpuShares", "PidsLimit")}
    assert found == {
        "Memory": 1 << 26,
        "MemorySwap": -1,
        "CpuQuota": 50_000,
        "CpuPeriod": 100_000,
        "CpuShares": 2048,
        "PidsLimit": 9,
    }
    resources = config().spec.resources
    assert mapping.change(resources.requests, resources.limits)["PidsLimit"] == -1
    assert "PidsLimit" not in body()["HostConfig"]


def test_privileges_are_no_wider_than_natively() -> None:
    host = body(security={"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}})["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["SecurityOpt"]) == (["ALL"], ["CHOWN"], ["no-new-privileges"])
    assert body(security={"privileged": True})["HostConfig"]["SecurityOpt"] == []


def test_ours_are_known_by_labels_that_a_spec_cannot_forge() -> None:
    labels = body(labels={"tier": "front", "reconciler.owner": "somebody"})["Labels"]
    assert labels == {
        "tier": "front",
        "reconciler.owner": "owner",
        "reconciler.name": "web",
        "reconciler.digest": "1:abc",
    }


@pytest.mark.parametrize(
    ("reference", "image"),
    [
        ("box", "box:latest"),
        ("box:1", "box:1"),
        ("registry.example:5000/team/box", "registry.example:5000/team/box:latest"),
        ("box@sha256:00", "box@sha256:00"),
    ],
)
def test_an_image_without_a_tag_is_the_latest(reference: str, image: str) -> None:
    assert name_of(reference) == image


def test_an_image_in_a_file_of_this_host_has_a_name_of_its_own_on_the_engine() -> None:
    references = ("oci:/srv/box", "oci:/srv/box:1", "docker-archive:/srv/box", "oci:/srv/box")
    names = {name_of(each) for each in references}
    assert len(names) == 3
    assert all(re.fullmatch(r"reconciler/(oci|docker-archive):[0-9a-f]{32}", name) for name in names)


def test_a_directory_that_names_no_image_is_refused() -> None:
    spec = ContainerSpec(name="web", type="docker", image=Image(reference="oci:relative"))
    assert [field for field, _ in refusals(spec)] == ["image.reference"]


def state(**changes: Any) -> dict[str, Any]:
    base = {"Running": False, "Status": "exited", "ExitCode": 0, "OOMKilled": False, "Error": ""}
    return {"State": base | {"FinishedAt": "2026-01-02T03:04:05.678901234Z"} | changes}


@pytest.mark.parametrize(
    ("changes", "code", "signal", "reason"),
    [
        ({}, 0, None, Reason.EXITED),
        ({"ExitCode": 3}, 3, None, Reason.EXITED),
        ({"ExitCode": 137}, None, 9, Reason.SIGNALED),
        ({"ExitCode": 143}, None, 15, Reason.SIGNALED),
        ({"ExitCode": 137, "OOMKilled": True}, None, 9, Reason.OUT_OF_MEMORY),
        ({"ExitCode": 255}, 255, None, Reason.EXITED),
        ({"ExitCode": 127, "Error": "no such file"}, 127, None, Reason.LAUNCH_FAILED),
        ({"ExitCode": 127}, 127, None, Reason.EXITED),
    ],
)
def test_how_it_ended(changes: dict[str, Any], code: int | None, signal: int | None, reason: Reason) -> None:
    found = reading.ended(state(**changes), 1.0)
    assert (found.code, found.signal, found.reason) == (code, signal, reason)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-02T03:04:05.5Z", 1767323045.5),
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T04:04:05.123456789+01:00", 1767323045.123456),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
    ],
)
def test_moments(text: str, seconds: float | None) -> None:
    found = reading.moment(text)
    assert found == pytest.approx(seconds) if seconds is not None else found is None
