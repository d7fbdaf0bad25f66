"""How a chain of CNI plugins is called, with plugins that write down what they are told. No privileges needed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.network.cni.driver import CniDriver
from reconciler.runtime.network.cni.plugins import Plugins
from reconciler.runtime.network.driver import Port, Request
from reconciler.runtime.network.namespaces import Namespace
from tests import processes

RESULT = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "veth7"}, {"name": "eth0", "sandbox": "/proc/1/fd/3"}],
    "ips": [{"address": "10.9.8.7/24", "gateway": "10.9.8.1", "interface": 1}],
    "dns": {"nameservers": ["10.9.8.1"], "domain": "lab.test", "search": ["test"]},
}
WRITE_DOWN = """#!/bin/sh
{ echo "$CNI_COMMAND $0 $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $CNI_ARGS $HOME"; cat; echo; } >> LOG
"""
REQUEST = Request("shop", "lab", "eth0")


class Lab:
    """A directory of plugins and one of configurations, with the network `lab` of the plugins `one` and `two`."""

    def __init__(self, base: Path) -> None:
        self.plugins, self.configurations, self.log = base / "bin", base / "net.d", base / "log"
        for directory in (self.plugins, self.configurations):
            directory.mkdir()
        self.says("one", RESULT)
        self.says("two", RESULT)
        self.configure({"type": "one"}, {"type": "two", "capabilities": {"portMappings": True}})

    def driver(self, seconds: float = 30) -> CniDriver:
        return CniDriver("0123456789abcdef", self.configurations, Plugins([self.plugins], seconds))

    def configure(self, *plugins: dict[str, Any], version: str = "1.0.0", **more: object) -> None:
        whole = {"cniVersion": version, "name": "lab", **more, "plugins": plugins}
        (self.configurations / "lab.conflist").write_text(json.dumps(whole))

    def says(self, plugin: str, result: dict[str, Any] | None = None, *, then: str = "") -> None:
        printed = f"cat <<'END'\n{json.dumps(result)}\nEND\n" if result is not None else ""
        path = self.plugins / plugin
        path.write_text(WRITE_DOWN.replace("LOG", str(self.log)) + printed + then)
        path.chmod(0o755)

    def calls(self) -> list[tuple[list[str], dict[str, Any]]]:
        lines = [line for line in self.log.read_text().splitlines() if line] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [
            (lines[number].replace(f"{self.plugins}/", "").split(), json.loads(lines[number + 1]))
            for number in range(0, len(lines), 2)
        ]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    found = Namespace.of(os.getpid())
    yield found
    found.close()


def test_add_goes_along_the_chain_and_del_back_with_the_last_result(lab: Lab, namespace: Namespace) -> None:
    driver = lab.driver()
    request = Request("shop", "lab", "eth0", "10.9.8.7", (Port(8080, 80, "tcp", "127.0.0.1"),))
    attachment = driver.attach(request, namespace)
    (first, one), (second, two) = lab.calls()
    path = f"/proc/{os.getpid()}/fd/{namespace.fd}"
    assert first == ["ADD", "one", "0123456789ab-shop", "eth0", path, "IgnoreUnknown=1;IP=10.9.8.7"]
    assert second == ["ADD", "two", *first[2:]]  # and nothing of the agent's environment
    assert "prevResult" not in one and "runtimeConfig" not in one
    assert two["prevResult"] == RESULT and "capabilities" not in two
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}
    assert two["runtimeConfig"] == {"portMappings": [mapping]}
    assert (attachment.addresses, attachment.gateways, attachment.links) == (
        ("10.9.8.7/24",),
        ("10.9.8.1",),
        ("veth7",),
    )
    assert attachment.dns == {"nameservers": ["10.9.8.1"], "search": ["lab.test", "test"], "options": []}
    (lab.configurations / "lab.conflist").unlink()  # what it takes to undo it is in the attachment
    driver.detach(request, attachment)
    (first, one), (second, two) = lab.calls()
    assert (first[:2], second[:2]) == (["DEL", "two"], ["DEL", "one"])
    assert path not in first and two["prevResult"] == one["prevResult"] == RESULT


def test_what_was_only_begun_is_undone_with_the_configuration_there_is(lab: Lab) -> None:
    lab.driver().detach(REQUEST, None)
    assert [(words[:2], "prevResult" in told) for words, told in lab.calls()] == [
        (["DEL", "two"], False),
        (["DEL", "one"], False),
    ]


def test_an_old_version_gives_del_no_result(lab: Lab, namespace: Namespace) -> None:
    lab.configure({"type": "one"}, version="0.3.1")
    driver = lab.driver()
    driver.detach(REQUEST, driver.attach(REQUEST, namespace))
    assert "prevResult" not in lab.calls()[1][1]


def test_check_goes_along_the_chain_to_the_first_that_fails(lab: Lab, namespace: Namespace) -> None:
    driver = lab.driver()
    attachment = driver.attach(REQUEST, namespace)
    lab.calls()
    path = f"/proc/{os.getpid()}/ns/net"
    assert driver.lacks(REQUEST, attachment, path) is None
    (first, one), (second, two) = lab.calls()
    assert (first[:2], second[:2]) == (["CHECK", "one"], ["CHECK", "two"])
    assert one["prevResult"] == two["prevResult"]  # and the namespace is where it is found by now
    assert path in first and [each.get("sandbox") for each in one["prevResult"]["interfaces"]] == [None, path]
    lab.says("one", {"code": 102, "msg": "no such rule"}, then="exit 1")
    assert driver.lacks(REQUEST, attachment, path) == "CNI plugin one, CHECK eth0 of network lab: no such rule"
    assert [words[:2] for words, _ in lab.calls()] == [["CHECK", "one"]]
    (lab.plugins / "one").unlink()  # that is no verdict
    with pytest.raises(Retryable, match="no CNI plugin one"):
        driver.lacks(REQUEST, attachment, path)


@pytest.mark.parametrize("unchecked", [{"version": "0.3.1"}, {"disableCheck": True}, {"disableCheck": "true"}])
def test_what_cannot_or_will_not_be_checked_is_not(lab: Lab, namespace: Namespace, unchecked: dict[str, Any]) -> None:
    before = lab.driver().attach(REQUEST, namespace)
    lab.configure({"type": "one"}, **unchecked)
    attachment = lab.driver().attach(REQUEST, namespace)
    lab.calls()
    assert lab.driver().lacks(REQUEST, attachment, "/proc/self/ns/net") is None
    if "disableCheck" in unchecked:  # it holds for those that were attached before
        assert lab.driver().lacks(REQUEST, before, "/proc/self/ns/net") is None
    assert lab.calls() == []


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (lambda lab: lab.says("two", {"code": 11, "msg": "no address left", "details": "10.9.8.0/24"}, then="exit 1"),
         "CNI plugin two, ADD eth0 of network lab: no address left (10.9.8.0/24)"),
        (lambda lab: lab.says("two", then="echo Segmentation fault >&2; exit 139"), "exit 139: Segmentation fault"),
        (lambda lab: lab.says("two", then="exit 0"), "it gave no result"),
        (lambda lab: lab.says("two", {**RESULT, "ips": []}), "gave no address where 10.9.8.7 was asked for"),
        (lambda lab: (lab.plugins / "two").unlink(), "there is no CNI plugin two in "),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_the_plugins_words(
    lab: Lab, namespace: Namespace, says: Callable[[Lab], None], told: str
) -> None:
    says(lab)
    with pytest.raises(Retryable) as failed:
        lab.driver().attach(Request("shop", "lab", "eth0", "10.9.8.7"), namespace)
    assert told in failed.value.message


def test_a_plugin_that_hangs_is_killed_with_all_it_started(lab: Lab, namespace: Namespace) -> None:
    lab.says("one", then="sleep 1000 & echo $! > PID; wait".replace("PID", str(lab.log) + ".pid"))
    began = time.monotonic()
    with pytest.raises(Retryable, match="not done when its chain had had 1 s, and was killed"):
        lab.driver(1).attach(REQUEST, namespace)
    assert time.monotonic() - began < 15
    left = int(Path(f"{lab.log}.pid").read_text())
    deadline = time.monotonic() + 10
    while processes.alive(left):
        assert time.monotonic() < deadline, os.kill(left, signal.SIGKILL)
        time.sleep(0.01)


def test_what_cannot_be_carried_out_is_said_before(lab: Lab) -> None:
    published = Request("shop", "lab", "eth0", None, (Port(8080, 80, "tcp"),))
    assert lab.driver().check(published) == []
    lab.configure({"type": "one", "ipam": {"type": "three"}})
    (missing, unpublished) = lab.driver().check(published)
    assert "no CNI plugin three in" in missing and str(lab.configurations / "lab.conflist") in missing
    assert "portMappings, such as portmap" in unpublished
    (lab.configurations / "lab.conflist").write_text("{")
    (why,) = lab.driver().check(published)
    assert f"{lab.configurations / 'lab.conflist'} cannot be used" in why
    assert lab.calls() == []
