"""A custom executor: runs any number of tasks, each as a process group of its own. The standard library only.

It outlives its agent: while nobody listens it goes on, keeps what it could not report, and tries to connect again. The
protocol is in docs/executors.md; this file may be copied and changed at will.

    spec:
      executor:
        command: [python3, /opt/executors/several.py]
        tasks:
          web: {command: [httpd, -f]}
          beat: {shell: "while sleep 5; do date; done"}
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid

RETRY = 0.5  # seconds between two attempts to connect


def connect(path):
    """A socket's path may have 107 bytes at most; below a descriptor any is short enough."""
    directory = os.open(os.path.dirname(path), os.O_PATH)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


class Executor:
    def __init__(self, path):
        self.path = path
        self.connection = None
        self.received = b""
        self.next_try = 0.0
        self.tasks = {}  # task id -> process
        self.deadlines = {}  # task id -> when its grace is over
        self.asked = set()  # task ids that were told to end
        self.unacknowledged = {}  # uuid -> update
        self.stopping = False

    def run(self):
        while not (self.stopping and not self.tasks and (not self.unacknowledged or self.connection is None)):
            if self.connection is None and time.monotonic() >= self.next_try:
                self.subscribe()
            self.wait()
            self.reap()
            for task_id, deadline in list(self.deadlines.items()):
                if time.monotonic() >= deadline:
                    self.signal(task_id, signal.SIGKILL)
                    del self.deadlines[task_id]

    # -- the agent

    def subscribe(self):
        self.next_try = time.monotonic() + RETRY
        try:
            self.connection = connect(self.path)
        except OSError:
            return  # no agent, or not yet
        self.received = b""
        self.say(type="SUBSCRIBE", tasks=list(self.tasks), updates=list(self.unacknowledged.values()))

    def say(self, **message):
        if self.connection is None:
            return
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.lost()

    def lost(self):
        self.connection.close()
        self.connection = None

    def report(self, task_id, state, **more):
        update = {"task_id": task_id, "uuid": uuid.uuid4().hex, "state": state, **more}
        self.unacknowledged[update["uuid"]] = update
        self.say(type="UPDATE", **update)

    def wait(self):
        """For a message, a child's end (the signal writes to a pipe), or a while."""
        sources = [wakeup] + ([self.connection] if self.connection is not None else [])
        ready, _, _ = select.select(sources, [], [], 0.1 if self.deadlines else RETRY)
        if wakeup in ready:
            os.read(wakeup, 4096)
        if self.connection not in ready or self.connection is None:
            return
        try:
            data = self.connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.lost()
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            self.hear(json.loads(line))

    def hear(self, message):
        kind = message["type"]
        if kind == "LAUNCH":
            self.launch(message["task"])
        elif kind == "KILL":
            self.kill(message["task_id"], message.get("kill_policy") or {})
        elif kind == "ACKNOWLEDGED":
            self.unacknowledged.pop(message["uuid"], None)
        elif kind == "SHUTDOWN":
            self.stop(message["grace_seconds"])
        elif kind == "ERROR":
            sys.stderr.write(message["message"] + "\n")

    # -- the tasks

    def launch(self, task):
        task_id = task["task_id"]
        if task_id in self.tasks or self.stopping:
            return
        try:
            env = {**os.environ, **task["env"]}
            self.tasks[task_id] = subprocess.Popen(task["command"], env=env, start_new_session=True)
        except (OSError, IndexError) as error:
            self.report(task_id, "FAILED", code=127, message=str(error))
        else:
            self.report(task_id, "RUNNING")

    def kill(self, task_id, policy):
        if task_id not in self.tasks:
            return
        self.asked.add(task_id)
        self.signal(task_id, getattr(signal, policy.get("signal", "SIGTERM"), signal.SIGTERM))
        self.deadlines.setdefault(task_id, time.monotonic() + policy.get("grace_seconds", 3))

    def stop(self, grace):
        self.stopping = True
        for task_id in list(self.tasks):
            self.kill(task_id, {"grace_seconds": max(grace - 1, 0)})

    def signal(self, task_id, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.tasks[task_id].pid, number)

    def reap(self):
        for task_id, process in list(self.tasks.items()):
            status = process.poll()
            if status is None:
                continue
            del self.tasks[task_id]
            self.deadlines.pop(task_id, None)
            how = {"signal": -status} if status < 0 else {"code": status}
            if task_id in self.asked:
                self.report(task_id, "KILLED", **how)
            else:
                self.report(task_id, "FINISHED" if status == 0 else "FAILED", **how)


if __name__ == "__main__":
    wakeup, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    executor = Executor(os.environ["RECONCILER_EXECUTOR_SOCKET"])
    signal.signal(signal.SIGTERM, lambda *_: executor.stop(3))
    executor.run()
