"""Isolators that misbehave, and one that takes its time."""

from __future__ import annotations

import threading

from reconciler.runtime.containerizer import ContainerConfig
from reconciler.runtime.isolators.isolator import Context, LaunchInfo, PassiveIsolator


class Failing(PassiveIsolator):
    """Raises `error` at `stage`, for as long as it has one. `undone` counts the clean-ups that went well."""

    name = "test/failing"

    def __init__(self, stage: str, error: Exception) -> None:
        self.stage = stage
        self.error: Exception | None = error
        self.undone = 0

    def _at(self, stage: str) -> None:
        if stage == self.stage and self.error is not None:
            raise self.error

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        self._at("prepare")
        return None

    def isolate(self, context: Context, pid: int) -> None:
        self._at("isolate")

    def cleanup(self, context: Context) -> None:
        self._at("cleanup")
        self.undone += 1


class Slow(PassiveIsolator):
    """Waits at `stage` until it is let go; `reached` tells that it waits. Only for the container of `only`."""

    name = "test/slow"

    def __init__(self, stage: str, only: str = "") -> None:
        self.stage, self.only = stage, only
        self.reached, self.go = threading.Event(), threading.Event()

    def _at(self, stage: str, name: str) -> None:
        if stage == self.stage and self.only in ("", name):
            self.reached.set()
            self.go.wait(20)

    def prepare(self, config: ContainerConfig, context: Context) -> LaunchInfo | None:
        self._at("prepare", context.name)
        return None

    def isolate(self, context: Context, pid: int) -> None:
        self._at("isolate", context.name)

    def cleanup(self, context: Context) -> None:
        self._at("cleanup", context.name)
