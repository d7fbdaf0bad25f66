"""From files to what is desired: a bad file never stops what runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.spec.references import Kind
from reconciler.spec.sources.listing import Content, ListingState
from reconciler.states import Reason, Status
from tests.unit.loop.values import desire_files, document, record, spec


@pytest.fixture
def no_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if terminals could not be given yet, whatever else can by now."""
    monkeypatch.setattr(
        "reconciler.loop.desired.unsupported", lambda one: (("tty", "tty is not supported"),) if one.tty else ()
    )


WEB = spec("web", "sleep", "infinity")
BROKEN = document("web", "comand: [x]")


def test_a_valid_file_asks_for_its_containers() -> None:
    pod = "containers:\n  - name: web\n    command: [httpd]"
    found = desire_files({"pod.yaml": document("shop", pod)})
    assert sorted(found.containers) == ["shop", "shop.web"]
    assert found.containers["shop.web"].origin.line == 6


def test_an_invalid_file_keeps_the_last_good_version_and_says_where() -> None:
    found = desire_files({"web.yaml": BROKEN}, record(WEB))
    assert found.containers["web"].spec == WEB
    refusal = found.refusals["web"]
    assert (refusal.status, refusal.reason) == (Status.INVALID, Reason.INVALID_SPEC)
    assert refusal.message.startswith("web.yaml:5:3: spec.comand: ")


def test_an_invalid_file_that_never_ran_is_refused_only() -> None:
    found = desire_files({"web.yaml": BROKEN})
    assert (list(found.containers), list(found.refusals)) == ([], ["web"])


def test_a_file_without_a_readable_name_keeps_what_came_from_it() -> None:
    found = desire_files({"web.yaml": "a: [unclosed"}, record(WEB), record(spec("db", "x"), file="db.yaml"))
    assert list(found.containers) == ["web"]
    assert list(found.errors) == ["web.yaml"]


def test_a_name_that_is_no_name_makes_no_row() -> None:
    found = desire_files({"web.yaml": document("../../etc")})
    assert (found.containers, found.refusals) == ({}, {})
    assert "web.yaml" in found.errors


def test_a_file_being_written_keeps_what_came_from_it() -> None:
    found = desire_files({}, record(WEB), busy=("web.yaml",))
    assert list(found.containers) == ["web"]


def test_an_unknown_listing_keeps_everything_and_may_add() -> None:
    files = {"new.yaml": document("new")}
    found = desire_files(files, record(WEB), state=ListingState.UNKNOWN, reason="sub/: permission denied")
    assert sorted(found.containers) == ["new", "web"]
    assert (found.complete, found.unknown_reason) == (False, "sub/: permission denied")


def test_an_unsettled_listing_keeps_what_is_missing() -> None:
    found = desire_files({}, record(WEB), settled=False)
    assert (list(found.containers), found.complete) == (["web"], False)


def test_a_vanished_file_of_a_settled_listing_is_not_asked_for() -> None:
    found = desire_files({}, record(WEB))
    assert (found.containers, found.complete) == ({}, True)


@pytest.mark.usefixtures("no_terminals")
def test_an_unsupported_field_is_named_with_its_place() -> None:
    found = desire_files({"web.yaml": document("web", "command: [x]\ntty: true")})
    refusal = found.refusals["web"]
    assert (refusal.status, refusal.reason) == (Status.BLOCKED, Reason.NOT_SUPPORTED)
    assert refusal.message == "web.yaml:6:3: tty is not supported"


@pytest.mark.usefixtures("no_terminals")
def test_an_unsupported_nested_container_blocks_itself_and_what_is_below_it() -> None:
    log = "containers: [{name: log, command: [tail]}]"
    body = f"containers:\n  - name: web\n    command: [x]\n    tty: true\n    {log}"
    found = desire_files({"pod.yaml": document("shop", body)})
    assert list(found.containers) == ["shop"]
    assert {name: refusal.reason for name, refusal in found.refusals.items()} == {
        "shop.web": Reason.NOT_SUPPORTED,
        "shop.web.log": Reason.PARENT_NOT_RUNNING,
    }


def test_of_two_files_with_one_name_the_running_one_wins_and_both_are_named() -> None:
    files = {"a.yaml": document("web", "command: [a]"), "web.yaml": document("web")}
    found = desire_files(files, record(WEB))
    assert found.containers["web"].spec == WEB
    assert found.refusals["web"].reason is Reason.DUPLICATE_NAME
    assert "a.yaml:1 and web.yaml:1" in found.refusals["web"].message


def test_of_two_new_files_with_one_name_the_first_wins() -> None:
    found = desire_files({"b.yaml": document("web", "command: [b]"), "a.yaml": document("web", "command: [a]")})
    assert found.containers["web"].origin.file == "a.yaml"


def test_a_name_of_another_source_is_in_conflict() -> None:
    found = desire_files({"web.yaml": document("web")}, record(WEB, source="/elsewhere"))
    assert found.containers == {}
    assert found.refusals["web"].reason is Reason.OTHER_SOURCE
    assert "/elsewhere" in found.refusals["web"].message


def test_a_name_on_its_way_out_may_be_asked_for_again() -> None:
    leaving = replace(record(WEB, source="/elsewhere"), deleting=True)
    assert list(desire_files({"web.yaml": document("web")}, leaving).containers) == ["web"]


def test_comments_and_key_order_change_no_digest() -> None:
    body = "command: [x]\nhostname: h"
    plain = desire_files({"web.yaml": document("web", body)})
    other = desire_files({"web.yaml": "# hello\n" + document("web", "hostname: h\ncommand: [x]")})
    assert plain.containers["web"].digest == other.containers["web"].digest


def test_a_file_that_is_referred_to_and_cannot_be_read_keeps_the_last_good_version() -> None:
    """Whatever else its spec file says by now; without one it is blocked until the file is there."""
    body = "command: [sleep, infinity]\nenv: {TOKEN: {fromFile: token}}"
    files = {"/n/web.yaml": document("web", body), "/n/db.yaml": document("db")}
    place = ("/n/token", Kind.ENV)
    old = replace(record(WEB, file="/n/web.yaml"), contents={"env.TOKEN": "k:1"})
    found = desire_files(files, old, contents={place: Content(error="it is gone")})
    assert found.containers["web"].spec == WEB
    assert found.containers["web"].contents == {"env.TOKEN": "k:1"}
    refusal = found.refusals["web"]
    assert (refusal.status, refusal.reason) == (Status.BLOCKED, Reason.FILE_UNREADABLE)
    assert refusal.message == "/n/web.yaml:6:9: spec.env.TOKEN: /n/token: it is gone"
    assert "db" in found.containers
    assert "web" not in desire_files(files, contents={place: Content(error="it is gone")}).containers
    read = desire_files(files, old, contents={place: Content("k:2")}).containers["web"]
    again = desire_files(files, old, contents={place: Content("k:3")}).containers["web"]
    assert read.contents == {"env.TOKEN": "k:2"}
    assert read.digest != again.digest


PUBLISHED = "namespaces: {network: private}\ncommand: [x]\nports: [{host: 80, container: 8080%s}]"


def test_a_port_that_two_ask_for_is_the_firsts_and_the_other_is_told_whose() -> None:
    files = {"b.yaml": document("b", PUBLISHED % ""), "a.yaml": document("a", PUBLISHED % ', hostIP: "127.0.0.1"')}
    found = desire_files(files)
    assert list(found.containers) == ["a"]
    refusal = found.refusals["b"]
    assert (refusal.status, refusal.reason) == (Status.CONFLICT, Reason.PORT_TAKEN)
    assert refusal.message == (
        "b.yaml:7:12: spec.ports[0].host: port 80/tcp of the host is that of a (a.yaml:1), which has 127.0.0.1:80/tcp"
    )


def test_who_has_a_port_keeps_it_while_it_asks_for_it() -> None:
    whole = desire_files({"b.yaml": document("b", PUBLISHED % "")}).containers["b"].spec
    files = {"a.yaml": document("a", PUBLISHED % "")}
    applied = record(whole, file="b.yaml")
    both = desire_files({**files, "b.yaml": document("b", PUBLISHED % "")}, applied)
    assert (list(both.containers), list(both.refusals)) == (["b"], ["a"])
    unreadable = desire_files({**files, "b.yaml": document("b", "comand: [x]")}, applied)
    assert (list(unreadable.containers), sorted(unreadable.refusals)) == (["b"], ["a", "b"])
    left = desire_files({**files, "b.yaml": document("b", "command: [x]")}, applied)
    assert (sorted(left.containers), list(left.refusals)) == (["a", "b"], [])


@pytest.mark.parametrize(
    "other",
    [
        PUBLISHED.replace("80, c", "81, c") % "",
        PUBLISHED % ", protocol: udp",
        PUBLISHED % ', hostIP: "192.0.2.8"',
        PUBLISHED % ', hostIP: "::"',
        "suspend: true\n" + PUBLISHED % "",
    ],
)
def test_ports_that_are_not_the_same_are_both_given(other: str) -> None:
    files = {"b.yaml": document("b", other), "a.yaml": document("a", PUBLISHED % ', hostIP: "192.0.2.7"')}
    assert sorted(desire_files(files).containers) == ["a", "b"]
