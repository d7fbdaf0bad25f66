"""Custom executors, without any: the messages, the session, and what it all comes to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.loop.digests import launch_digest
from reconciler.runtime.containerizer import Termination
from reconciler.runtime.executor import messages, session
from reconciler.runtime.executor.messages import BadMessage, Subscribe, TaskState, Update
from reconciler.runtime.executor.session import Session, Step
from reconciler.spec.changes import compare
from reconciler.spec.model import ContainerSpec
from reconciler.spec.tasks import main_process
from reconciler.states import ChangeClass, Reason

ENDED = Termination(0, None, Reason.EXITED, 5.0, "exited with code 0")


def info(shell: str, grace: float = 3.0) -> dict[str, Any]:
    return {"command": ["sh", "-c", shell], "kill_policy": {"signal": "SIGTERM", "grace_seconds": grace}}


def fresh(**wanted: dict[str, Any]) -> Session:
    return Session("shop", ("/sandbox", ""), wanted or {"web": info("a")}, grace=5.0, kill_grace=3.0, register_by=60.0)


def told(step: Step) -> list[tuple[str, str]]:
    said = [json.loads(line) for line in step[1]]
    return [(each["type"], each.get("task", each).get("task_id", "")) for each in said]


def running(**wanted: dict[str, Any]) -> Session:
    now, _ = session.subscribed(fresh(**wanted), [], [])
    for run in list(now.runs.values()):
        now, _ = session.updated(now, Update(run.id, "u", TaskState.RUNNING))
    return now


def update(now: Session, name: str, state: TaskState, **more: Any) -> Session:
    return session.updated(now, Update(now.runs[name].id, "u", state, **more))[0]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[" * 100_000,
        b"7",
        b'{"type": "LAUNCH"}',
        b'{"type": "UPDATE", "task_id": "a", "uuid": "b", "state": "STAGING"}',
        b'{"type": "UPDATE", "task_id": "", "uuid": "b", "state": "RUNNING"}',
        b'{"type": "UPDATE", "task_id": "a", "uuid": "b", "state": "FAILED", "code": 300}',
        b'{"type": "UPDATE", "task_id": "a", "uuid": "b", "state": "FAILED", "code": true}',
        b'{"type": "SUBSCRIBE", "tasks": "web"}',
        b'{"type": "SUBSCRIBE", "tasks": [], "updates": [7]}',
    ],
)
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(BadMessage):
        messages.read(line)


def test_text_from_a_container_is_bounded_and_has_no_control_characters() -> None:
    said = {"type": "UPDATE", "task_id": "a", "uuid": "b", "state": "FAILED", "message": "\x1b[31m\n" + "x" * 9999}
    read = messages.read(json.dumps(said).encode())
    assert isinstance(read, Update) and read.message.isprintable() and len(read.message) <= 500


def test_who_subscribes_is_told_what_to_run_and_begins_once_all_runs() -> None:
    step = session.subscribed(fresh(web=info("a"), beat=info("b")), [], [])
    assert told(step) == [("SUBSCRIBED", ""), ("LAUNCH", "web.1"), ("LAUNCH", "beat.2")]
    now = update(step[0], "web", TaskState.RUNNING)
    assert not now.begun and update(now, "beat", TaskState.RUNNING).begun


def test_a_changed_task_is_ended_and_launched_anew_and_no_other_touched() -> None:
    now = running(web=info("a"), beat=info("b"))
    step = session.assigned(now, {"web": info("changed"), "beat": info("b", grace=9.0), "new": info("c")})
    assert told(step) == [("KILL", "web.1"), ("LAUNCH", "new.3")]
    assert step[0].runs["beat"].info["kill_policy"]["grace_seconds"] == 9.0
    step = session.updated(step[0], Update("web.1", "u", TaskState.KILLED, signal=15))
    assert told(step) == [("LAUNCH", "web.4")]
    assert step[0].failed is None and not session.to_be_ended(step[0])
    step = session.assigned(step[0], {"beat": info("b")})
    assert told(step) == [("KILL", "new.3"), ("KILL", "web.4")] or told(step) == [("KILL", "web.4"), ("KILL", "new.3")]


def test_a_task_that_is_wanted_again_while_it_ends_is_launched_again_after_its_end() -> None:
    now = running(web=info("a"), beat=info("b"))
    now, _ = session.assigned(now, {"beat": info("b")})
    step = session.assigned(now, {"web": info("a"), "beat": info("b")})
    assert told(step) == []
    assert told(session.updated(step[0], Update("web.1", "u", TaskState.KILLED))) == [("LAUNCH", "web.3")]


def test_coming_back_brings_both_sides_to_the_same() -> None:
    now = running(web=info("a"), beat=info("b"), late=info("c"), done=info("d"))
    now = replace(now, runs={**now.runs, "late": replace(now.runs["late"], state=TaskState.STAGING)}, reconnect_by=9.0)
    missed = Update("done.4", "u", TaskState.FINISHED, code=0)
    step = session.subscribed(now, ["web.1", "stranger.9"], [missed])
    assert told(step) == [("SUBSCRIBED", ""), ("KILL", "stranger.9"), ("LAUNCH", "late.3")]
    runs = step[0].runs
    assert (runs["done"].state, runs["beat"].state) == (TaskState.FINISHED, TaskState.FAILED)
    assert step[0].reconnect_by is None and session.to_be_ended(step[0])


def test_the_failure_of_a_task_ends_the_run_with_its_code() -> None:
    now = update(running(web=info("a"), beat=info("b")), "beat", TaskState.FAILED, code=7)
    assert session.to_be_ended(now)
    now, said = session.ended(now, 100.0)
    assert json.loads(said[0]) == {"type": "SHUTDOWN", "grace_seconds": 5.0}
    now = update(now, "web", TaskState.KILLED, signal=15)
    end = session.outcome(now, ENDED)
    assert (end.code, end.reason, end.success) == (7, Reason.TASK_FAILED, False) and "beat" in end.message


def test_the_run_is_done_when_all_of_its_tasks_are() -> None:
    now = update(running(web=info("a"), beat=info("b")), "beat", TaskState.FINISHED, code=0)
    assert not session.to_be_ended(now)
    now = update(now, "web", TaskState.FINISHED, code=0)
    assert session.to_be_ended(now)
    killed = replace(ENDED, code=None, signal=9, reason=Reason.SIGNALED)
    assert session.outcome(now, killed).success


def test_an_executor_that_ends_before_its_tasks_has_failed_however_it_ended() -> None:
    end = session.outcome(running(), ENDED)
    assert end.reason is Reason.EXECUTOR_TERMINATED and not end.success and "web" in end.message
    for reason in (Reason.OUT_OF_MEMORY, Reason.PARENT_ENDED, Reason.LAUNCH_FAILED, Reason.DISK_LIMIT_EXCEEDED):
        assert session.outcome(running(), replace(ENDED, reason=reason)).reason is reason


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("register_by", Reason.EXECUTOR_REGISTRATION_TIMEOUT),
        ("reconnect_by", Reason.EXECUTOR_REREGISTRATION_TIMEOUT),
    ],
)
def test_one_that_is_late_is_ended_with_a_grace_and_again_and_again(field: str, reason: Reason) -> None:
    now = replace(fresh(), **{"register_by": None, field: 60.0})
    assert session.due(now, 59.0) == session.Due(now, wake_at=60.0)
    asked = session.due(now, 61.0)
    assert (asked.signal, asked.wake_at) == ("SIGTERM", 64.0)
    assert session.due(asked.session, 62.0).signal is None
    killed = session.due(asked.session, 65.0)
    assert killed.signal == "SIGKILL" and killed.session.kill_at == 65.0 + session.KILL_AGAIN
    assert session.outcome(killed.session, ENDED).reason is reason


def test_a_shutdown_is_never_prolonged() -> None:
    now, _ = session.ended(running(), 100.0, destroyed=True)
    assert now.shutdown_by == 105.0
    now, said = session.ended(now, 103.0)
    assert now.shutdown_by == 105.0 and said == []
    assert session.ended(now, 103.0, grace=1.0)[0].shutdown_by == 104.0
    assert told(session.subscribed(now, ["web.1"], []))[-1] == ("SHUTDOWN", "")
    assert session.due(now, 106.0).signal == "SIGTERM"


STATES = st.sampled_from([each for each in TaskState if each is not TaskState.STAGING])
CALLS = st.one_of(
    st.builds(Update, st.sampled_from(["a.1", "a.2", "b.2", "b.3", "c.9"]), st.just("u"), STATES),
    st.builds(Subscribe, st.lists(st.sampled_from(["a.1", "b.2", "x.1"])).map(tuple)),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy").map(info), min_size=1),
)


@given(st.lists(CALLS, max_size=30))
def test_whatever_is_said_ends_are_ends_ids_are_used_once_and_nothing_is_lost_on_disk(calls: list[Any]) -> None:
    now, launched, finals = fresh(a=info("x"), b=info("y")), list[str](), dict[str, TaskState]()
    for call in calls:
        if isinstance(call, Update):
            step = session.updated(now, call)
        elif isinstance(call, Subscribe):
            step = session.subscribed(now, call.tasks, call.updates)
        else:
            step = session.assigned(now, call)
        before, now = now, step[0]
        known = {run.id for run in before.runs.values()}
        launched += [task_id for kind, task_id in told(step) if kind == "LAUNCH" and task_id not in known]
        assert len(launched) == len(set(launched))
        for run in now.runs.values():
            assert finals.get(run.id, run.state) is run.state
            if run.state.final:
                finals[run.id] = run.state
        assert Session.from_json(json.loads(json.dumps(now.as_json()))) == now


def test_while_nobody_could_come_nobody_was_late() -> None:
    late = replace(running(), reconnect_by=60.0)
    assert session.due(session.waited_for(late, 500.0), 499.0).session.failure is None
    assert session.waited_for(running(), 500.0).reconnect_by is None


@pytest.mark.parametrize(
    ("own", "more", "both"),
    [
        ({"memory": 100}, {"memory": 50, "cpus": 1.0}, {"memory": 150}),
        ({"cpus": 1.0, "pids": 5}, {"cpus": 0.5}, {"cpus": 1.5, "pids": 5}),
        ({}, {"memory": 50}, {}),
    ],
)
def test_what_an_executor_needs_is_added_to_the_limits_that_there_are(
    own: dict[str, Any], more: dict[str, Any], both: dict[str, Any]
) -> None:
    executor = {"command": ["x"], "resources": {"limits": more, "requests": {"memory": 7}}}
    spec = ContainerSpec.model_validate(
        {"name": "a", "command": ["y"], "resources": {"limits": own}, "executor": executor}
    )
    found = main_process(spec).resources
    assert found.limits.model_dump(exclude_defaults=True) == both
    assert (found.requests.cpus, found.requests.memory) == (0.5, 7)


def test_tasks_are_no_part_of_what_an_instance_is_launched_with() -> None:
    def made(command: str, **tasks: dict[str, Any]) -> ContainerSpec:
        return ContainerSpec.model_validate({"name": "a", "executor": {"command": [command], "tasks": tasks}})

    one, other = made("x", web={"shell": "a"}), made("x", web={"shell": "b"}, new={"data": "c"})
    assert {change.change for change in compare(one, other)} == {ChangeClass.LIVE}
    assert launch_digest(one, "1") == launch_digest(other, "2")
    assert launch_digest(one, "1") != launch_digest(made("y", web={"shell": "a"}), "3")
