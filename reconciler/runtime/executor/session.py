"""What is between the agent and one executor: tasks, deadlines and how it ends. Pure; times are of the boot clock.

    STAGING ─LAUNCH─▶ STARTING ▸ RUNNING ▸ (KILLING) ▸ FINISHED │ FAILED │ KILLED

    no SUBSCRIBE by `register_by`, or none again by `reconnect_by`    the run has failed: SIGTERM, grace, SIGKILL
    a task fails, or all are over                                     SHUTDOWN, its grace, SIGTERM, grace, SIGKILL
    it is destroyed                                                   the same

Tasks are one group, as Mesos's default executor has them: the failure of one ends the run, and the restart policy is
the container's. A session is written down at every change, deadlines too, so that an agent that dies loses none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reconciler.runtime.containerizer import LIMITED, ContainerStatus, Termination
from reconciler.runtime.executor.messages import TaskState, Update, write
from reconciler.states import ContainerState, Reason

KILL_AGAIN = 10.0
_UNTOUCHED = LIMITED | {Reason.OUT_OF_MEMORY, Reason.PARENT_ENDED, Reason.LAUNCH_FAILED}
"""Ends that say more than what became of the tasks."""

Info = Mapping[str, Any]
"""What LAUNCH says of a task, but for its id."""


@dataclass(frozen=True, slots=True)
class Run:
    """One launch of a task. unwanted: it was told to end, because the spec has it no longer, or otherwise."""

    id: str
    info: Info
    state: TaskState = TaskState.STAGING
    code: int | None = None
    signal: int | None = None
    message: str = ""
    unwanted: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """wanted: name → task, as the spec has them; runs: name → its last launch; sandbox: (top, beneath), where the
    socket is; grace: of SHUTDOWN; kill_grace: between SIGTERM and SIGKILL; shutdown_by: set once it was told to shut
    down; destroyed: because the container is not wanted; failure: (reason, sentence), once the executor has failed."""

    name: str
    sandbox: tuple[str, str]
    wanted: Mapping[str, Info]
    grace: float
    kill_grace: float
    runs: Mapping[str, Run] = field(default_factory=dict)
    launches: int = 0
    subscribed: bool = False
    register_by: float | None = None
    reconnect_by: float | None = None
    shutdown_by: float | None = None
    kill_at: float | None = None
    destroyed: bool = False
    failure: tuple[str, str] | None = None

    @property
    def ending(self) -> bool:
        return self.shutdown_by is not None

    @property
    def over(self) -> bool:
        """Nothing is left to do for it."""
        return all(name in self.runs and self.runs[name].state.final for name in self.wanted) and not any(
            run.unwanted and not run.state.final for run in self.runs.values()
        )

    @property
    def failed(self) -> tuple[str, Run] | None:
        """The first task that ended as nobody wanted it to."""
        bad = (TaskState.FAILED, TaskState.KILLED)
        return next(((name, run) for name, run in self.runs.items() if run.state in bad and not run.unwanted), None)

    @property
    def begun(self) -> bool:
        early = (TaskState.STAGING, TaskState.STARTING)
        return all(name in self.runs and self.runs[name].state not in early for name in self.wanted)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Session:
        """Raises TypeError, KeyError or ValueError."""
        runs = {name: Run(**{**run, "state": TaskState(run["state"])}) for name, run in data["runs"].items()}
        top, beneath = data["sandbox"]
        failure = data["failure"] and (str(Reason(data["failure"][0])), str(data["failure"][1]))
        return cls(**{**data, "runs": runs, "sandbox": (str(top), str(beneath)), "failure": failure})


Step = tuple[Session, list[bytes]]
"""The session as it is then, and what to tell the executor, once that is written down."""


def subscribed(session: Session, tasks: Sequence[str], updates: Sequence[Update]) -> Step:
    """It is (again) there: both sides are brought to the same. What it never got is launched, what it lost failed."""
    for update in updates:
        session = _noted(session, update)
    session = replace(session, subscribed=True, register_by=None, reconnect_by=None)
    told = [write("SUBSCRIBED", container=session.name)]
    known = {run.id for run in session.runs.values()}
    told += [_kill(task_id, {}) for task_id in tasks if task_id not in known]
    for name, run in session.runs.items():
        if run.state.final:
            continue
        if run.state is TaskState.STAGING and run.id not in tasks:
            told.append(_launch(run))
        elif run.id not in tasks:
            lost = replace(run, state=TaskState.FAILED, message="its executor does not know it any more")
            session = replace(session, runs={**session.runs, name: lost})
        if run.unwanted:
            told.append(_kill(run.id, run.info))
    if session.ending:
        return session, [*told, write("SHUTDOWN", grace_seconds=session.grace)]
    session, more = converge(session)
    return session, told + more


def updated(session: Session, update: Update) -> Step:
    return converge(_noted(session, update))


def assigned(session: Session, wanted: Mapping[str, Info]) -> Step:
    """The spec has these tasks now."""
    return converge(replace(session, wanted=wanted))


def converge(session: Session) -> Step:
    """Launch what is wanted and not there, end what is there and not wanted; a changed task is both, in turn."""
    if not session.subscribed or session.ending:
        return session, []
    runs, told, launches = dict(session.runs), list[bytes](), session.launches
    for name, run in session.runs.items():
        if _same(run.info, session.wanted.get(name)):
            runs[name] = replace(run, info=session.wanted[name])  # its kill policy may be another one
        elif run.state.final:
            del runs[name]
        elif not run.unwanted:
            runs[name] = replace(run, unwanted=True)
            told.append(_kill(run.id, run.info))
    for name, info in session.wanted.items():
        if name in runs and not (runs[name].unwanted and runs[name].state.final):
            continue
        launches += 1
        runs[name] = Run(f"{name}.{launches}", info)
        told.append(_launch(runs[name]))
    return replace(session, runs=runs, launches=launches), told


def to_be_ended(session: Session) -> bool:
    """Of its own accord: its tasks are over, or one of them has failed."""
    return session.subscribed and not session.ending and (session.failed is not None or session.over)


def ended(session: Session, now: float, *, grace: float | None = None, destroyed: bool = False) -> Step:
    """It is to shut down. grace: less than its own, where that is asked for. Told again, it gets no further time."""
    least = session.grace if grace is None else min(grace, session.grace)
    by = now + least if session.shutdown_by is None else min(session.shutdown_by, now + least)
    told = [] if session.ending else [write("SHUTDOWN", grace_seconds=least)]
    runs = {name: run if run.state.final else replace(run, unwanted=True) for name, run in session.runs.items()}
    return replace(session, runs=runs, shutdown_by=by, destroyed=session.destroyed or destroyed), told


@dataclass(frozen=True, slots=True)
class Due:
    """What the time has come for. signal: for the main process, None for nothing; wake_at: when to ask again."""

    session: Session
    signal: str | None = None
    wake_at: float | None = None


def due(session: Session, now: float) -> Due:
    if session.kill_at is not None:
        if now < session.kill_at:
            return Due(session, wake_at=session.kill_at)
        again = replace(session, kill_at=now + KILL_AGAIN)
        return Due(again, "SIGKILL", again.kill_at)
    late = _late(session, now)
    if late is not None:
        session = replace(session, failure=late, shutdown_by=now)
    if session.shutdown_by is not None and session.shutdown_by <= now:
        told = replace(session, kill_at=now + session.kill_grace)
        return Due(told, "SIGTERM", told.kill_at)
    deadlines = (session.shutdown_by,) if session.ending else (session.register_by, session.reconnect_by)
    return Due(session, wake_at=min((each for each in deadlines if each is not None), default=None))


def waited_for(session: Session, by: float) -> Session:
    """One that could not come until now has until then."""
    register_by, reconnect_by = session.register_by, session.reconnect_by
    return replace(
        session,
        register_by=None if register_by is None else max(register_by, by),
        reconnect_by=None if reconnect_by is None else max(reconnect_by, by),
    )


def _late(session: Session, now: float) -> tuple[str, str] | None:
    if session.ending:
        return None
    if session.register_by is not None and session.register_by <= now:
        return Reason.EXECUTOR_REGISTRATION_TIMEOUT, "its executor did not subscribe in time"
    if session.reconnect_by is not None and session.reconnect_by <= now:
        return Reason.EXECUTOR_REREGISTRATION_TIMEOUT, "its executor did not come back in time"
    return None


def outcome(session: Session, end: Termination) -> Termination:
    """How the run ended, `end` being how its executor did."""
    if end.reason in _UNTOUCHED:
        return end
    if session.failure is not None:
        return replace(end, reason=Reason(session.failure[0]), message=session.failure[1])
    if (found := session.failed) is not None:
        name, run = found
        message = f"task {name} failed: {run.message}" if run.message else f"task {name} failed"
        return replace(end, code=run.code, signal=run.signal, reason=Reason.TASK_FAILED, message=message)
    if session.destroyed:
        return end
    if session.over and session.subscribed:
        done = "its task has finished" if len(session.wanted) == 1 else "its tasks have finished"
        return replace(end, code=0, signal=None, reason=Reason.EXITED, message=done)
    left = sorted(name for name in session.wanted if name not in session.runs or not session.runs[name].state.final)
    what = f"task {left[0]}" if len(left) == 1 else f"the tasks {', '.join(left)}"
    message = f"its executor {end.message or 'ended'} before {what} had ended"
    return replace(end, reason=Reason.EXECUTOR_TERMINATED, message=message)


def shown(session: Session, seen: ContainerStatus, *, connected: bool = True, trouble: str = "") -> ContainerStatus:
    """The container, as its executor's tasks make it, `seen` being what its containerizer knows."""
    if seen.termination is not None:
        return replace(seen, termination=outcome(session, seen.termination))
    if not seen.running:
        return seen
    said = (seen.message, trouble, says(session, connected=connected))
    state = ContainerState.DESTROYING if session.destroyed else seen.state
    return replace(seen, state=state, message="; ".join(part for part in said if part), begun=session.begun)


def says(session: Session, *, connected: bool) -> str:
    """What there is to say of it while it runs."""
    if session.failure is not None:
        return f"{session.failure[1]}: it is ended"
    if session.ending:
        return "its executor shuts down"
    if not session.subscribed:
        return "its executor has not subscribed yet"
    parts = [] if connected else ["its executor is not connected"]
    parts += [f"task {name} is {_words(run)}" for name, run in session.runs.items() if _worth_saying(run)]
    return "; ".join(parts)


def _worth_saying(run: Run) -> bool:
    return run.state is not TaskState.RUNNING or bool(run.message)


def _words(run: Run) -> str:
    return f"{run.state} ({run.message})" if run.message else str(run.state)


def _noted(session: Session, update: Update) -> Session:
    """An end is the end: what comes after it, or of a run that is forgotten, changes nothing."""
    for name, run in session.runs.items():
        if run.id == update.task_id and not run.state.final and not _backwards(run.state, update.state):
            new = replace(run, state=update.state, code=update.code, signal=update.signal, message=update.message)
            return replace(session, runs={**session.runs, name: new})
    return session


def _backwards(old: TaskState, new: TaskState) -> bool:
    order = list(TaskState)
    return order.index(new) < order.index(old)


def _same(info: Info, wanted: Info | None) -> bool:
    return wanted is not None and {**info, "kill_policy": None} == {**wanted, "kill_policy": None}


def _launch(run: Run) -> bytes:
    return write("LAUNCH", task={"task_id": run.id, **run.info})


def _kill(task_id: str, info: Info) -> bytes:
    return write("KILL", task_id=task_id, kill_policy=info.get("kill_policy"))
