"""What runs in a new process between clone and exec, and the init that stays as pid 1.

    keeper ──clone3──▶ child: enter its v1 cgroups ▸ close what is not its own ▸ wait for "go" (end of file: exit)
                              ▸ (what the host side takes for it) ▸ steps of the launch plan ▸ fork payload
                       payload:  its own last steps (credentials, filter) ▸ exec
                       init:  its own (credentials) ▸ becomes the static init, if there is one ▸ forwards signals,
                              reaps, writes the payload's raw wait status, ends the rest

Failure before the exec travels back over a close-on-exec pipe as one JSON record
{stage, errno, what, path}; end of file without a record means the exec happened. Standard library only.
The init writes the status to a descriptor opened before the launch, so it needs no path, no agent and
no keeper to do so (Mesos's launch helper does the same).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from collections.abc import Mapping
from typing import Any, NoReturn

from reconciler.runtime.kernel import proc, syscalls, terminals
from reconciler.runtime.launcher import hostside, static_init
from reconciler.runtime.launcher.steps import Descriptors, perform

NOT_FOUND = 127
NOT_EXECUTABLE = 126
PLACE = "place:"

# Sent to an init, this ends the container at once: everything below it is killed. Not forwarded.
# It stands in for SIGKILL where no cgroup can reach what the payload started.
END_NOW = signal.SIGRTMAX

_ALL_SIGNALS = signal.valid_signals()
# what an init passes on to its payload; the rest it cannot catch, or means something to itself
FORWARDED = frozenset(_ALL_SIGNALS) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, END_NOW}
_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
_UMASK = 0o022
started_with: list[tuple[int, int]] = []  # soft and hard limit of open files, once they were raised


def raise_descriptor_limit() -> None:
    """The keeper holds some descriptors per container, so it takes all it may; its children get back what it was
    started with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    started_with[:] = [(soft, hard)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def heed_signals() -> None:
    """The keeper ignores no signal but those that Python itself does, whatever its starter ignored: that survives an
    exec (signal(7)), and to see to it here costs each launch nothing."""
    for number in _ALL_SIGNALS - _IGNORED_BY_PYTHON:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def run(plan: Mapping[str, Any], fds: Descriptors, title: tuple[int, int]) -> NoReturn:
    """The body of the child; never returns. fds: go, error, placed, stdin, stdout, stderr, place:*
    (the `tasks` file of a v1 cgroup each), and what the steps name."""
    stage = "start"
    path: str | None = None
    try:
        _place(fds)
        _settle(plan, fds, title)
        if not os.read(fds["go"], 1):
            os._exit(NOT_EXECUTABLE)  # nobody is left who could say "go"
        os.close(fds.pop("go"))
        if hostside.ROLE in fds:
            stage = "take"
            fds.update(hostside.ask(fds.pop(hostside.ROLE)))
        for step in plan["steps"]:
            stage, path = step["op"], step.get("target")
            perform(step, fds)
        if not plan["init"]:
            _start(plan, fds)
        stage, path = "init", None
        _become_init(plan, fds)
    except OSError as error:
        _report(fds["error"], stage, error, path)
    except BaseException as error:  # noqa: BLE001 - the last frame of a forked process: reported, then gone
        _report(fds["error"], stage, OSError(0, f"{type(error).__name__}: {error}"), path)
    os._exit(NOT_EXECUTABLE)


def _place(fds: Descriptors) -> None:
    """By `tasks` and not by `cgroup.procs`, and nobody else for us: to move a process the kernel takes a lock that
    costs an RCU grace period, 6 to 13 ms on an idle machine; a thread that moves itself needs none
    (cgroup_procs_write_start in kernel/cgroup/cgroup.c). This is the only thread."""
    for role in [role for role in fds if role.startswith(PLACE)]:
        try:
            os.write(fds[role], b"0")
        except OSError as error:
            raise OSError(error.errno, f"{role}: {error.strerror}") from error
        os.close(fds.pop(role))
    os.write(fds["placed"], b"1")
    os.close(fds.pop("placed"))


def _settle(plan: Mapping[str, Any], fds: Descriptors, title: tuple[int, int]) -> None:
    """Let go of everything that was the keeper's."""
    signal.set_wakeup_fd(-1)
    syscalls.close_all_but(set(fds.values()))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.dup2(fds[name], number, inheritable=True)
    for name in ("stdin", "stdout", "stderr"):
        if fds[name] > 2:
            os.close(fds[name])
        del fds[name]
    if plan.get("undumpable"):
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    os.setsid()
    os.umask(_UMASK)
    for limits in started_with:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    syscalls.set_title(*title, f"init {plan['name']}")
    syscalls.set_process_name("init")


def _report(fd: int, stage: str, error: OSError, path: str | None) -> None:
    record = {
        "stage": stage,
        "errno": error.errno or 0,
        "what": error.strerror or str(error),
        "path": error.filename or path,
    }
    with contextlib.suppress(OSError):
        os.write(fd, json.dumps(record).encode())


def _start(plan: Mapping[str, Any], fds: Descriptors) -> NoReturn:
    """Become the payload. What fails is reported; a payload without one of its steps never runs."""
    stage, code = "exec", NOT_EXECUTABLE
    try:
        if plan.get("tty"):
            terminals.take_control(0)
        _forget_signals()
        for step in plan.get("payload_steps", ()):
            stage = step["op"]
            perform(step, fds)
        stage = "exec"
        _exec(plan, {**plan["env"], **_secrets(plan, fds)})
    except (FileNotFoundError, NotADirectoryError) as error:
        code = NOT_FOUND if stage == "exec" else NOT_EXECUTABLE
        _report(fds["error"], stage, error, None)
    except OSError as error:
        _report(fds["error"], stage, error, None)
    os._exit(code)


def _forget_signals() -> None:
    """Default dispositions, empty mask, descriptors 0 to 2 only after the exec."""
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    syscalls.close_on_exec_from(3)


def _secrets(plan: Mapping[str, Any], fds: Descriptors) -> dict[str, str]:
    """Variables that only the payload ever reads."""
    return {
        name: os.fsdecode(os.pread(fds[role], os.fstat(fds[role]).st_size, 0))
        for name, role in plan.get("secrets", {}).items()
    }


def _exec(plan: Mapping[str, Any], env: dict[str, str]) -> NoReturn:
    argv: list[str] = plan["argv"]
    if not argv[0]:
        raise FileNotFoundError(2, "the name of the command is empty")
    if "/" in argv[0]:
        _execve(argv[0], argv, env)
    denied: OSError | None = None
    for directory in env.get("PATH", os.defpath).split(":"):
        try:
            _execve(os.path.join(directory or ".", argv[0]), argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            denied = error
    raise denied or FileNotFoundError(2, f"no such command in PATH={env.get('PATH', os.defpath)}", argv[0])


def _execve(path: str, argv: list[str], env: dict[str, str]) -> NoReturn:
    try:
        os.execve(path, argv, env)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _become_init(plan: Mapping[str, Any], fds: Descriptors) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    payload, init = 0, os.getpid()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # while it is still certain to be there, and what it seems
    if plan["argv"]:
        payload, pidfd = syscalls.clone3(0, exit_signal=signal.SIGCHLD)
        if payload == 0:
            _start_payload(plan, fds, init)
        os.close(pidfd)
    program = fds.get(static_init.ROLE, -1)
    for step in plan.get("init_steps", ()):
        perform({**step, "inheriting": program >= 0}, fds)
    for number in range(3):  # a reader of the container's output sees its end when the payload closes it
        os.dup2(null, number)
    if program >= 0:
        with contextlib.suppress(OSError):  # then this stays the init
            undumpable = bool(plan.get("undumpable"))
            static_init.execute(program, plan["name"], payload, fds["exit"], fds["error"], undumpable=undumpable)
    syscalls.close_all_but({0, 1, 2, fds["exit"]})
    _supervise(payload, fds["exit"])


def _start_payload(plan: Mapping[str, Any], fds: Descriptors, init: int) -> NoReturn:
    try:
        # without a pid namespace or cgroup nothing else would end it when its init is killed
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != init:
            os._exit(NOT_EXECUTABLE)
        os.setsid()
    except OSError as error:
        _report(fds["error"], "start", error, None)
        os._exit(NOT_EXECUTABLE)
    _start(plan, fds)


def _supervise(payload: int, exit_fd: int) -> NoReturn:
    """Until the payload has ended. `payload` 0: a holder, which ends when it is told to. What changes here changes in
    init/init.c too."""
    while True:
        info = signal.sigwaitinfo(_ALL_SIGNALS)
        if info.si_signo == signal.SIGCHLD:
            if (status := _reap(payload)) is not None:
                _write_down(exit_fd, status)
                break
        elif info.si_signo == END_NOW:
            _end_the_rest(payload, exit_fd)
            break
        elif payload:
            with contextlib.suppress(ProcessLookupError):
                os.kill(payload, info.si_signo)
        elif info.si_signo in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            _write_down(exit_fd, info.si_signo)
            break
    _end_the_rest(0, exit_fd)
    os._exit(0)


def _write_down(exit_fd: int, status: int) -> None:
    """A disk that is full, or a reader that has gone, must not keep an init from ending the rest."""
    with contextlib.suppress(OSError):
        os.write(exit_fd, b"%d\n" % status)


def _reap(payload: int) -> int | None:
    """Reap all that can be; the payload's raw wait status once it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == payload:
            found = status


def _end_the_rest(payload: int, exit_fd: int) -> None:
    """Kill and reap everything below us. The init is a subreaper, so whatever double-forked away is here too."""
    while True:
        for pid in proc.own_children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        if pid == payload:
            _write_down(exit_fd, status)
