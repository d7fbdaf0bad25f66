"""What payload and init do last: who they become, what they may do, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.environment import gather
from reconciler.runtime.isolators.capabilities import DEFAULT, EVERY, CapabilitiesIsolator, granted
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, merge
from reconciler.runtime.isolators.nnp import NoNewPrivilegesIsolator
from reconciler.runtime.isolators.seccomp import SeccompIsolator
from reconciler.runtime.kernel import capabilities
from reconciler.runtime.launcher import inside
from reconciler.runtime.launcher.steps import OPERATIONS
from reconciler.runtime.mesos import launch_plan
from reconciler.spec.isolation import Security
from tests.unit.runtime.test_plan import config

ISOLATORS = (CapabilitiesIsolator(), NoNewPrivilegesIsolator(), SeccompIsolator(granted))


def plan(run: Path, *, root: bool = True, user: str | None = None, **security: Any) -> dict[str, Any]:
    made = config(name="shop", command=["web"], user=user, security=security)
    info = merge(isolator.prepare(made, Context("shop", {}, run)) for isolator in ISOLATORS)
    return launch_plan.build(made, info, gather(made), launch_plan.Account(user), privileged=root)


def steps(found: dict[str, Any]) -> list[str]:
    return [step["op"] for step in found["payload_steps"]]


def test_with_no_new_privileges_the_filter_is_the_very_last(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert steps(found) == ["credentials", "filter"]
    assert found["payload_steps"][0]["no_new_privileges"] is True
    assert found["files"] == {"filter": str(tmp_path / "filter")} and (tmp_path / "filter").stat().st_size > 0


def test_without_it_the_filter_comes_while_there_are_privileges(tmp_path: Path) -> None:
    assert steps(plan(tmp_path, noNewPrivileges=False)) == ["filter", "credentials"]


def test_unconfined_means_no_filter(tmp_path: Path) -> None:
    found = plan(tmp_path, seccomp="unconfined")
    assert steps(found) == ["credentials"] and found["files"] == {} and not (tmp_path / "filter").exists()


def test_privileged_changes_the_user_and_nothing_else(tmp_path: Path) -> None:
    found = plan(tmp_path, user="65534:65534", privileged=True)
    became = {"op": "credentials", "uid": 65534, "gid": 65534, "groups": [65534]}
    assert (found["payload_steps"], found["init_steps"], found["files"]) == ([became], [became], {})


def test_root_holds_its_set_another_user_nothing_and_the_init_what_it_signals_with(tmp_path: Path) -> None:
    for user, held in (("0:0", sorted(DEFAULT)), ("65534:65534", [])):
        found = plan(tmp_path, user=user)
        payload, init = found["payload_steps"][0], found["init_steps"][0]
        assert (payload["bounding"], payload["held"]) == (sorted(DEFAULT), held)
        assert (init["bounding"], init["held"], init["uid"]) == (sorted(DEFAULT), ["KILL"], payload["uid"])


def test_an_ordinary_user_stays_who_they_are() -> None:
    info = LaunchInfo(no_new_privileges=True, files={"filter": "/x"})
    made = config(name="shop", command=["web"])
    found = launch_plan.build(made, info, gather(made), launch_plan.Account(None), privileged=False)
    assert found["payload_steps"] == [{"op": "credentials", "no_new_privileges": True}, {"op": "filter"}]


def test_a_process_that_joins_has_the_same_last_steps_and_files(tmp_path: Path) -> None:
    own = plan(tmp_path)
    joined = inside.plan(own, {"mount"}, ["ps"], env={})
    assert (joined["payload_steps"], joined["files"]) == (own["payload_steps"], own["files"])


def test_every_last_step_is_one_that_the_child_knows_and_plain_data(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert {step["op"] for step in found["payload_steps"] + found["init_steps"]} <= OPERATIONS.keys()
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({}, DEFAULT),
        ({"add": ["NET_ADMIN"]}, DEFAULT | {"NET_ADMIN"}),
        ({"drop": ["MKNOD"]}, DEFAULT - {"MKNOD"}),
        ({"drop": ["ALL"]}, set()),
        ({"drop": ["ALL"], "add": ["CHOWN"]}, {"CHOWN"}),
        ({"add": ["ALL"]}, EVERY),
        ({"add": ["ALL"], "drop": ["SYS_ADMIN"]}, EVERY - {"SYS_ADMIN"}),
        ({"add": ["CHOWN"], "drop": ["CHOWN"]}, DEFAULT),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",  # a set has no order of its own
)
def test_add_and_drop_are_read_as_docker_reads_them(written: dict[str, list[str]], expected: set[str]) -> None:
    assert granted(Security.model_validate({"capabilities": written})) == expected


def test_the_default_set_is_dockers() -> None:
    assert capabilities.mask(DEFAULT) == 0xA80425FB


def test_the_spec_knows_every_capability_and_no_other() -> None:
    Security.model_validate({"capabilities": {"add": [*capabilities.NAMES, "ALL"]}})
    with pytest.raises(ValueError, match='"NET_ADMN" is not a capability'):
        Security.model_validate({"capabilities": {"add": ["NET_ADMN"]}})


def test_a_profile_that_is_not_there_yet_is_named_and_tried_again(tmp_path: Path) -> None:
    with pytest.raises(Retryable, match=r"mine\.json: No such file"):
        plan(tmp_path, seccomp=str(tmp_path / "mine.json"))


@pytest.mark.parametrize("text", ["", "[]", '{"defaultAction": "SCMP_ACT_NOTIFY"}'])
def test_a_profile_that_cannot_be_carried_out_is_named_with_its_field(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(Retryable, match=rf"spec\.security\.seccomp: {path}"):
        plan(tmp_path, seccomp=str(path))


def test_isolators_that_want_another_file_for_one_role_disagree() -> None:
    with pytest.raises(Terminal, match="file filter"):
        merge([LaunchInfo(files={"filter": "/a"}), LaunchInfo(files={"filter": "/b"})])


def test_what_two_isolators_leave_of_the_capabilities_is_what_both_leave() -> None:
    merged = merge(
        [LaunchInfo(capabilities=frozenset({"KILL", "CHOWN"})), LaunchInfo(capabilities=frozenset({"KILL"}))]
    )
    assert merged.capabilities == {"KILL"} and merge([None]).capabilities is None
