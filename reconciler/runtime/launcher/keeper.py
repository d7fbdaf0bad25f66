"""The keeper: one small process per runtime directory that forks containers, reaps them and outlives the agent.

Invariants. Single-threaded and standard library only, so that a fork is cheap and safe. Nothing in the
loop blocks on a path: what needs one is done by children, and files are written through descriptors that
came with the request. Reaping comes before any other work (a pid namespace's init stays unreapable until
every process injected into its namespace is reaped). A status is written down before anyone is told. A child
that was never released dies with the client that asked for it. With no container left and no agent
connected, the keeper removes its cgroup roots and its socket and is gone. Asked to, it becomes one of other code in
place (`handover`).

    agent ══SEQPACKET══▶ fork(plan, fds) ─▶ clone3 ─▶ placed in its cgroups ─▶ {pid} + pidfd
                         release ─▶ "go" ─▶ error pipe at end of file: exec'ed │ a record: why not
                         executor(order) ─▶ a docker executor of one container, forked and left to itself
    `exec` ◀══ {"event": "exit", name, run, status} (containers: the status is in a file, their pidfd tells when)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import select
import signal
import socket
import time
from typing import Any

from reconciler.runtime.docker.executor.executor import Executor
from reconciler.runtime.kernel import proc, syscalls
from reconciler.runtime.launcher import channel, child, cloning, handover, offspring, static_init
from reconciler.runtime.launcher.pins import Pins
from reconciler.runtime.launcher.wards import Ward, Wards

VERSION = 4  # of the protocol; 3 has `upgrade`, and `code` in the answer to `hello`; 4 has `executor`
OLDEST = 2  # that is still spoken
SOCKET = "keeper.sock"
LOCK = "keeper.lock"
ALREADY_KEPT = 3
_LIBC_SIGNALS = (32, 33)
LINGER = 0.3  # seconds without container and agent before it goes
LINGER_AT_FIRST = 10.0  # the agent that started it has yet to connect


class Client:
    """One connection. agent: keeps the keeper alive."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.agent = False


class Keeper:
    def __init__(self, runtime_dir: str, lock: int, listener: socket.socket) -> None:
        self.runtime_dir = runtime_dir
        self.lock = lock
        self.epoll = select.epoll()
        self.listener = listener
        self.clients: dict[int, Client] = {}
        self.wards = Wards()
        self.executors: set[int] = set()
        self.roots: list[str] = []
        self.upgrade: handover.Upgrade | None = None
        self.title = proc.argument_area()
        self.init = -1
        with contextlib.suppress(OSError):  # `doctor` says why
            self.init = static_init.load()
        self.idle_until = time.monotonic() + LINGER_AT_FIRST
        self.wakeup, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for fd in (self.listener.fileno(), self.wakeup):
            self.epoll.register(fd, select.EPOLLIN)

    # ---- the loop

    def serve(self) -> None:
        """Until there is nothing left to keep."""
        while (timeout := self._patience()) is None or timeout > 0:
            # one event at a time: with more, reaping or answering one could close the descriptor of the next,
            # and its number would be somebody else's by the time that one is looked at
            events = self.epoll.poll(-1 if timeout is None else timeout, 1)
            self._reap()
            for fd, _ in events:
                if fd == self.listener.fileno():
                    self._accept()
                elif fd == self.wakeup:
                    os.read(self.wakeup, 4096)
                elif fd in self.clients:
                    self._hear(self.clients[fd])
                else:
                    self._watched(fd)

    def _patience(self) -> float | None:
        """Seconds to wait before going, None for as long as it takes."""
        if self.wards.all or self.executors or any(client.agent for client in self.clients.values()):
            self.idle_until = time.monotonic() + LINGER
            return None
        return self.idle_until - time.monotonic()

    def leave(self) -> None:
        """The last act, so it may block: take away the socket and what is left of our cgroups."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.runtime_dir, SOCKET))
        Pins(self.runtime_dir).remove()
        for root in self.roots:
            _remove_cgroups(root)

    # ---- clients

    def _accept(self) -> None:
        sock, _ = self.listener.accept()
        self._listen_to(sock)

    def _listen_to(self, sock: socket.socket) -> Client:
        sock.setblocking(False)
        client = self.clients[sock.fileno()] = Client(sock)
        self.epoll.register(sock.fileno(), select.EPOLLIN)
        return client

    def _hear(self, client: Client) -> None:
        try:
            received = channel.receive(client.sock)
        except (BlockingIOError, ValueError):
            return
        except OSError:
            received = None
        if received is None:
            self._hang_up(client)
            return
        message, fds = received
        answer: channel.Message = {"seq": message.get("seq")}
        give: list[int] = []
        try:
            give = self._answer(client, message, fds, answer)
        except OSError as error:
            failure = {
                "stage": message.get("op"),
                "errno": error.errno or 0,
                "what": str(error),
                "path": error.filename,
            }
            answer.update(ok=False, error=failure)
        except (KeyError, TypeError, ValueError) as error:
            failure = {"stage": message.get("op"), "errno": 0, "what": f"bad request: {error!r}", "path": None}
            answer.update(ok=False, error=failure)
        finally:
            for fd in fds:  # what a ward needs for longer it has taken out of the list
                os.close(fd)
        if "ok" in answer:
            self._tell(client, answer, give)

    def _hang_up(self, client: Client) -> None:
        self.epoll.unregister(client.sock.fileno())
        del self.clients[client.sock.fileno()]
        if self.upgrade is not None and self.upgrade.client == client.sock.fileno():
            self.upgrade.client = -1
        client.sock.close()
        for ward in list(self.wards.all):
            if ward.client is client:
                ward.client = None
                if not ward.released or ward.transient:
                    ward.kill()

    def _tell(self, client: Client, message: channel.Message, fds: list[int] | None = None) -> None:
        try:
            channel.send(client.sock, message, fds)
        except OSError:
            # a client that does not read is not waited for; it finds all it missed on disk
            if client.sock.fileno() in self.clients:
                self._hang_up(client)

    # ---- requests

    def _answer(self, client: Client, message: channel.Message, fds: list[int], answer: channel.Message) -> list[int]:
        """Fill in `answer`; without an "ok" in it, it comes later. Returns descriptors to send along."""
        match message["op"]:
            case "hello":
                if not OLDEST <= message["version"] <= VERSION:
                    raise ValueError(f"this keeper speaks versions {OLDEST} to {VERSION}, not {message['version']}")
                client.agent = message["role"] == "agent"
                self.roots = message.get("roots", self.roots)
                known = [ward.as_json() for ward in self.wards.all if not ward.transient]
                answer.update(ok=True, version=VERSION, code=handover.code(), pid=os.getpid(), containers=known)
            case "fork":
                ward = cloning.clone(message, fds, self.title, self.init)
                ward.client = client
                self.wards.add(ward)
                self._begin_pump(ward)
                answer.update(ok=True, pid=ward.pid, start=ward.start)
                return [ward.pidfd]
            case "release":
                ward = self.wards.of_run(message["name"], message["run"])
                ward.release(message["seq"])
                self.epoll.register(ward.error_fd, select.EPOLLIN)
            case "adopt":
                ward = Ward.adopted(message, fds)
                self.wards.add(ward)
                self.epoll.register(ward.pidfd, select.EPOLLIN)
                self._begin_pump(ward)
                answer["ok"] = True
            case "executor":
                pid = self._begin_executor(message["order"])
                answer.update(ok=True, pid=pid)
            case "upgrade":
                self._begin_upgrade(client, message, fds)
            case "end":
                self.idle_until = time.monotonic()
                client.agent = False
                answer["ok"] = True
            case other:
                raise ValueError(f"no such request: {other!r}")
        return []

    # ---- children

    def _watched(self, fd: int) -> None:
        """The error pipe of a released child, or the pidfd of an adopted container, has something to say."""
        if ward := self.wards.by_error_fd(fd):
            self.epoll.unregister(fd)
            seq, failure = ward.started()
            if ward.client is not None:
                result: channel.Message = {"seq": seq, "ok": failure is None}
                if failure is not None:
                    result["error"] = failure
                self._tell(ward.client, result)
        elif ward := self.wards.by_pidfd(fd):
            self.epoll.unregister(fd)
            self._ended(ward, syscalls.exit_status_of(ward.pidfd))
        elif (ward := self.wards.by_pump_fd(fd)) and ward.pump is not None:
            ward.pump.hear(fd)

    def _begin_pump(self, ward: Ward) -> None:
        if ward.pump is not None:
            ward.pump.begin(ward.name, self._directory(ward), ward.pidfd, self.title, self._watch)

    def _directory(self, ward: Ward) -> str:
        return os.path.join(self.runtime_dir, "containers", ward.name)

    def _begin_executor(self, order: dict[str, Any]) -> int:
        """It finds its own way: one that dies is replaced by whoever looks for it."""
        executor = Executor(order)
        pid = offspring.begin(self.title, "docker-executor", order["name"], (), executor.serve)
        self.executors.add(pid)
        return pid

    def _watch(self, fd: int, on: bool) -> None:
        if on:
            self.epoll.register(fd, select.EPOLLIN)
        else:
            self.epoll.unregister(fd)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if ward := self.wards.by_pid(pid):
                self._ended(ward, status)
            elif self.upgrade is not None and self.upgrade.pid == pid:
                self._tried(self.upgrade, status)
            self.executors.discard(pid)

    def _ended(self, ward: Ward, status: int | None) -> None:
        if ward.error_fd >= 0 and ward.released:
            self._watched(ward.error_fd)
        ward.record(status)
        ward.kill_the_rest()
        self.wards.remove(ward)
        for other in self.wards.within(ward):
            other.kill()
        if not ward.keep.keys() & {"kill", "procs"}:
            _end_orphans(ward.pid, self.wards.pids)
        event: channel.Message = {"event": "exit", "name": ward.name, "run": ward.run, "status": status}
        if ward.transient and ward.client is not None:
            self._tell(ward.client, event)
        ward.close()

    # ---- becoming another version of itself

    def _begin_upgrade(self, client: Client, message: channel.Message, fds: list[int]) -> None:
        if self.upgrade is not None:
            raise BlockingIOError(errno.EALREADY, "another upgrade is under way", self.runtime_dir)
        exe = fds[message["roles"].index("exe")]
        upgrade = handover.Upgrade(client.sock.fileno(), message["seq"], message["command"], exe, self.runtime_dir)
        upgrade.try_out(self.state())
        fds.remove(exe)
        self.upgrade = upgrade

    def _tried(self, upgrade: handover.Upgrade, status: int) -> None:
        why = upgrade.verdict(status)
        if why is None:
            try:
                upgrade.carry_out(self.state())
            except OSError as error:
                why = str(error)
        self.upgrade = None
        upgrade.close()
        if (client := self.clients.get(upgrade.client)) is not None:
            failure = {"stage": "upgrade", "errno": 0, "what": why, "path": None}
            self._tell(client, {"seq": upgrade.seq, "ok": False, "error": failure})

    def state(self) -> dict[str, Any]:
        """All that another image of this process needs to go on."""
        return {
            "listener": self.listener.fileno(),
            "lock": self.lock,
            "roots": self.roots,
            "limits": child.started_with,
            "clients": [{"fd": fd, "agent": client.agent} for fd, client in self.clients.items()],
            "wards": [ward.handed_over() for ward in self.wards.all],
            "executors": sorted(self.executors),
        }

    def take_over(self, state: dict[str, Any]) -> None:
        """The counterpart of `state`; whoever asked for the upgrade is told."""
        self.roots = state["roots"]
        self.executors = set(state.get("executors", ()))
        for each in state["clients"]:
            self._listen_to(socket.socket(fileno=each["fd"])).agent = each["agent"]
        for each in state["wards"]:
            ward = Ward.taken_over(each, self.clients)
            self.wards.add(ward)
            if ward.is_adopted:
                self.epoll.register(ward.pidfd, select.EPOLLIN)
            if ward.released and ward.error_fd >= 0:
                self.epoll.register(ward.error_fd, select.EPOLLIN)
            if ward.pump is not None:
                ward.pump.go_on(ward.name, self._directory(ward), ward.pidfd, self.title, self._watch)
        waiting = state["waiting"]
        if (client := self.clients.get(waiting["client"])) is not None:
            self._tell(client, {"seq": waiting["seq"], "ok": True, "version": VERSION, "code": handover.code()})
        self._reap()


def _end_orphans(session: int, spared: set[int]) -> None:
    """Kill what a first process left to us, and all below it: where no cgroup tells, its session does."""
    for orphan in proc.own_children():
        stat = None if orphan in spared else proc.read_stat(orphan)
        if stat is not None and stat.session == session:
            for pid in (*proc.descendants(orphan), orphan):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)


def _remove_cgroups(root: str) -> None:
    """Remove an empty cgroup tree and its parent if that is empty too; what still has processes stays."""
    for directory, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(root))


def _take_lock(path: str) -> int:
    """The lock's descriptor, held for life; -1 when another keeper has it."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return -1
        # a keeper that leaves removes the file: a lock on a removed file keeps nobody out
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        os.close(lock)


def main(runtime_dir: str) -> int:
    """Start the keeper of `runtime_dir` in the background; 0 once it listens, 3 when there is one already."""
    lock = _take_lock(os.path.join(runtime_dir, LOCK))
    if lock < 0:
        return ALREADY_KEPT
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(ready_write)
        return 0 if os.read(ready_read, 1) else 1
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(
        os.path.join(runtime_dir, "keeper.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600
    )
    for number, fd in enumerate((null, null, log)):
        os.dup2(fd, number)
    syscalls.close_all_but({0, 1, 2, lock, ready_write})
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    child.raise_descriptor_limit()
    for number in _LIBC_SIGNALS:
        syscalls.default_disposition(number)  # the others: `child.heed_signals`
    _hide()
    keeper = Keeper(runtime_dir, lock, channel.listen(runtime_dir, SOCKET))
    os.write(ready_write, b"1")
    os.close(ready_write)
    return _keep(keeper)


def _hide() -> None:
    if os.geteuid() == 0:
        # a clone is seen in its container before it runs a line of its own, and must not be readable then
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def _keep(keeper: Keeper) -> int:
    handover.code()
    child.heed_signals()
    gc.disable()
    gc.collect()
    gc.freeze()  # children share these pages for as long as nobody writes to them
    keeper.serve()
    keeper.leave()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(keeper.runtime_dir, "keeper.log"))
        os.unlink(os.path.join(keeper.runtime_dir, LOCK))
    return 0


def go_on(word: str, runtime_dir: str, memfd: str) -> int:
    """In the new image of an upgrade: `trial` only reads the state, else this is the keeper from now on."""
    if word != handover.TRIAL:
        _hide()
    state = handover.read(int(memfd))
    if word == handover.TRIAL:
        return 0
    handover.take_descriptors(state)
    child.started_with[:] = [tuple(limits) for limits in state["limits"]]
    keeper = Keeper(runtime_dir, state["lock"], socket.socket(fileno=state["listener"]))
    keeper.take_over(state)
    return _keep(keeper)
