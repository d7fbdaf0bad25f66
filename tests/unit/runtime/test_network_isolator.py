"""What the isolator `network` makes of a spec, and what it remembers whatever dies when."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators import network
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.isolators.namespaces import NamespacesIsolator
from reconciler.runtime.isolators.network import NetworkIsolator, requests
from reconciler.runtime.kernel.netlink import Message
from reconciler.runtime.network.driver import Attachment, Held, Port, Request
from reconciler.runtime.network.namespaces import Namespace, Namespaces
from reconciler.runtime.network.record import DIRECTORY, Record
from reconciler.spec.model import ContainerSpec

PRIVATE = {"network": "private"}


@dataclass
class Driver:
    """Notes what it is asked; fails at the interface named `fails`."""

    name: str = "test"
    fails: str = ""
    wrong: str | None = None
    keeps: str | None = None  # why it cannot detach
    unmended: str | None = None
    attached: list[str] = field(default_factory=list)
    detached: list[tuple[str, Attachment | None]] = field(default_factory=list)
    recovered: list[Held] = field(default_factory=list)

    def networks(self) -> Sequence[str]:
        return ("bridge", "back")

    def check(self, request: Request) -> list[str]:
        return ["no"] if request.ip == "bad" else []

    def foresee(self, request: Request) -> None:
        pass

    def begin(self, request: Request) -> None:
        pass

    def attach(self, request: Request, namespace: Namespace) -> Attachment:
        assert Path(f"/proc/self/fd/{namespace.fd}").samefile("/proc/self/ns/net")
        if request.ifname == self.fails:
            raise OSError(5, "failed")
        self.attached.append(request.ifname)
        return Attachment((f"10.0.0.{len(self.attached)}/24",), dns={"search": ("a",)}, details={"n": 1})

    def detach(self, request: Request, attachment: Attachment | None) -> None:
        if self.keeps is not None:
            raise Retryable(self.keeps)
        self.detached.append((request.ifname, attachment))

    def lacks(self, request: Request, attachment: Attachment, netns: str) -> str | None:
        assert netns == f"/proc/{os.getpid()}/ns/net"
        return self.wrong

    def taken(self, *_: object) -> tuple[list[Message], list[Message]]:
        return [], []

    def mend(self) -> str | None:
        return self.unmended

    def recover(self, held: Sequence[Held]) -> None:
        self.recovered = list(held)


class Ours(Namespaces):
    """Ours is always ready. closed: for whom there is nobody left."""

    closed = False

    def take(self) -> Future[Namespace]:
        taken: Future[Namespace] = Future()
        taken.set_result(Namespace.of(os.getpid()))
        return taken

    def none(self) -> None:
        self.closed = True


def isolator_of(root: Path, driver: Driver, namespaces: Namespaces | None = None) -> NetworkIsolator:
    return NetworkIsolator(Record(root), [driver], namespaces or Ours())


def prepare(isolator: NetworkIsolator, root: Path, **fields: Any) -> None:
    info = isolator.prepare(config(root, **fields), context(root))
    assert info is not None and not info.isolates
    os.close(info.entered["network"]())
    for each in info.beside:
        each()


def spec(**fields: Any) -> ContainerSpec:
    return ContainerSpec.model_validate({"name": "shop", "shell": "true", "namespaces": PRIVATE, **fields})


def config(root: Path, **fields: Any) -> ContainerConfig:
    return ContainerConfig(spec(**fields), "d", root / "sandbox", root / "logs")


def context(root: Path) -> Context:
    (root / "shop").mkdir(exist_ok=True)
    return Context("shop", {}, root / "shop", (os.getpid(),))


TWO: dict[str, Any] = {"networks": [{"name": "bridge"}, {"name": "back", "ip": "10.0.0.9"}]}


def test_the_first_network_publishes_the_ports_and_leads_everywhere_else() -> None:
    asked = list(requests(spec(**TWO, ports=[{"host": 80, "container": 8080}])))
    assert asked == [
        Request("shop", "bridge", "eth0", None, (Port(80, 8080, "tcp"),), True),
        Request("shop", "back", "eth1", "10.0.0.9", (), False),
    ]


def test_ports_alone_ask_for_the_default_network_and_a_bare_private_one_for_nothing() -> None:
    assert [each.network for each in requests(spec(ports=[{"host": 80, "container": 80}]))] == ["bridge"]
    assert list(requests(spec())) == []


def test_a_network_that_nobody_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    isolator = isolator_of(tmp_path, Driver())
    found = isolator.refuses(spec(networks=[{"name": "bridge"}, {"name": "nowhere"}, {"name": "back", "ip": "bad"}]))
    assert found == [
        "spec.networks[1]: there is no network nowhere; there are: back, bridge",
        "spec.networks[2]: no",
    ]


def test_left_out_of_the_isolation_nothing_is_connected_silently() -> None:
    assert NamespacesIsolator(["network"]).refuses(spec(**TWO)) == ["spec.networks: --isolation leaves out network"]


def test_what_was_attached_is_known_to_the_next_agent_and_detached_in_reverse(tmp_path: Path) -> None:
    driver = Driver()
    isolator = isolator_of(tmp_path, driver)
    prepare(isolator, tmp_path, **TWO)
    later, namespaces = Driver(), Ours()
    isolator = isolator_of(tmp_path, later, namespaces)
    isolator.recover({"shop": tmp_path / "shop"})
    assert [held.attachment and held.attachment.addresses for held in later.recovered] == [
        ("10.0.0.1/24",),
        ("10.0.0.2/24",),
    ]
    assert later.detached == [] and not namespaces.closed
    isolator.cleanup(context(tmp_path))
    isolator.cleanup(context(tmp_path))
    given = Attachment(("10.0.0.2/24",), dns={"search": ["a"]}, details={"n": 1})
    assert [ifname for ifname, _ in later.detached] == ["eth1", "eth0"]
    assert later.detached[0][1] == given
    assert namespaces.closed and not (tmp_path / DIRECTORY).exists()


def test_in_a_user_namespace_of_its_own_it_is_connected_once_it_is_there(tmp_path: Path) -> None:
    driver = Driver()
    isolator = isolator_of(tmp_path, driver)
    mapped = {**TWO, "namespaces": {**PRIVATE, "user": "private"}}
    info = isolator.prepare(config(tmp_path, **mapped), context(tmp_path))
    assert info is not None and info.isolates and not info.entered
    assert driver.attached == []
    isolator.isolate(context(tmp_path), os.getpid())
    assert driver.attached == ["eth0", "eth1"]


def test_without_networks_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    info = isolator_of(tmp_path, Driver()).prepare(config(tmp_path), context(tmp_path))
    assert info is not None and (info.entered, info.isolates) == ({}, False)


def test_what_is_lost_ends_the_run_when_it_was_there_and_is_missing_twice(tmp_path: Path) -> None:
    driver = Driver()
    isolator = isolator_of(tmp_path, driver)
    prepare(isolator, tmp_path, **TWO, isolators={"network": {"interval": "7s"}})
    assert isolator.every(context(tmp_path)) == 7
    assert isolator.watch(context(tmp_path)) is None
    isolator = isolator_of(tmp_path, driver)  # whatever becomes of the agent
    driver.wrong = "no link"
    found = [isolator.watch(context(tmp_path)) for _ in range(2)]
    assert [each and (each.reason, each.ends) for each in found] == [("NetworkLost", False), ("NetworkLost", True)]
    assert found[0] and found[0].message == "network bridge is not as it was made: no link"
    driver.wrong = None
    assert isolator.watch(context(tmp_path)) is None
    driver.wrong = "no link"
    assert (found := [isolator.watch(context(tmp_path))]) and found[0] and not found[0].ends


def test_what_was_never_right_is_only_told(tmp_path: Path) -> None:
    isolator = isolator_of(tmp_path, Driver(wrong="I do not know CHECK"))
    prepare(isolator, tmp_path, **TWO)
    found = [isolator.watch(context(tmp_path)) for _ in range(3)]
    assert [each and each.ends for each in found] == [False] * 3


def test_what_is_not_a_containers_own_and_cannot_be_put_back_is_told_and_ends_nothing(tmp_path: Path) -> None:
    isolator = isolator_of(tmp_path, Driver(unmended="no rules"))
    prepare(isolator, tmp_path, **TWO)
    found = [isolator.watch(context(tmp_path)) for _ in range(3)]
    assert [each and (each.message, each.ends) for each in found] == [("no rules", False)] * 3


def test_without_networks_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    isolator = isolator_of(tmp_path, Driver())
    isolator.prepare(config(tmp_path), context(tmp_path))
    assert isolator.every(context(tmp_path)) is None
    (why,) = isolator.refuses(spec(isolators={"network": {"interval": "7s"}}))
    assert why == "spec.isolators.network: is for containers with networks of their own"


def test_a_half_made_attachment_is_handed_over_without_one(tmp_path: Path) -> None:
    isolator = isolator_of(tmp_path, Driver(fails="eth1"))
    with pytest.raises(OSError, match="failed"):
        prepare(isolator, tmp_path, **TWO)
    later = Driver()
    isolator_of(tmp_path, later).recover({})  # its agent died, and the container is no more
    assert [(ifname, given is None) for ifname, given in later.detached] == [("eth1", True), ("eth0", False)]
    assert not (tmp_path / DIRECTORY).exists()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_AT_ONCE", 0.02)
    monkeypatch.setattr(network, "_FIRST_RETRY", 0.02)


@pytest.mark.usefixtures("hurried")
def test_what_an_earlier_agent_left_is_undone_before_the_name_is_used_again(tmp_path: Path) -> None:
    """And again until it is: the next attachment would bear the same names."""
    prepare(isolator_of(tmp_path, Driver()), tmp_path, **TWO)
    driver = Driver(keeps="the plugin is not there")
    isolator = isolator_of(tmp_path, driver)
    isolator.recover({})  # after a reboot, say
    with pytest.raises(Retryable, match="the plugin is not there"):
        isolator.prepare(config(tmp_path, **TWO), context(tmp_path))
    driver.keeps = None
    prepare(isolator, tmp_path, **TWO)
    assert [ifname for ifname, _ in driver.detached] == ["eth1", "eth0"]
    assert driver.attached == ["eth0", "eth1"]


@pytest.mark.usefixtures("hurried")
def test_what_an_earlier_agent_left_is_undone_however_long_it_takes(tmp_path: Path) -> None:
    prepare(isolator_of(tmp_path, Driver()), tmp_path, **TWO)
    driver = Driver(keeps="not now")
    isolator_of(tmp_path, driver).recover({})
    assert (tmp_path / DIRECTORY / "shop.json").exists()
    driver.keeps = None
    deadline = time.monotonic() + 20
    while (tmp_path / DIRECTORY).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_record_that_cannot_be_read_keeps_nobody_from_starting(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).mkdir()
    (tmp_path / DIRECTORY / "shop.json").write_text("[{")
    driver = Driver()
    isolator_of(tmp_path, driver).recover({"shop": tmp_path})
    assert driver.recovered == [] and not list((tmp_path / DIRECTORY).iterdir())


def limited(**rates: str) -> dict[str, Any]:
    return {"resources": {"limits": {"network": rates}}}


def test_rates_go_with_each_network_of_a_containers_own_and_are_refused_without_one() -> None:
    told = [(each.ingress, each.egress) for each in requests(spec(**TWO, **limited(egress="1Ki")))]
    assert told == [(None, 1024), (None, 1024)]
    isolator = isolator_of(Path("/nowhere"), Driver())
    assert isolator.refuses(spec(**TWO, **limited(ingress="1Ki"))) == []
    assert isolator.refuses(spec(**limited(ingress="1Ki"))) == [
        "spec.resources.limits.network: is for containers with networks of their own"
    ]


@pytest.mark.parametrize("security", [{"privileged": True}, {"capabilities": {"add": ["NET_ADMIN"]}}], ids=repr)
def test_who_could_take_the_limit_of_what_he_sends_away_is_not_given_one(security: dict[str, Any]) -> None:
    isolator = isolator_of(Path("/nowhere"), Driver())
    assert isolator.refuses(spec(**TWO, **limited(egress="1Ki"), security=security)) == [
        "spec.resources.limits.network.egress: with the capability NET_ADMIN the container could take it away"
    ]
