"""Who may run what: markers for root and cgroups, and the promise that CI skips nothing.

A test that cannot run here says why in its skip. With CI=true and root that would hide a hole,
so there the session fails, naming every skipped test and its reason.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import hypothesis
import pytest

from tests import engine

SKIPPED: list[str] = []
ELSEWHERE = "runs under make test-vm"
"""Begins the reason of a test that needs another kernel: the one place where CI may skip."""

# how long an example takes says more about the machine than about us
hypothesis.settings.register_profile("anywhere", deadline=None)
hypothesis.settings.load_profile("anywhere")


def strict() -> bool:
    """CI as root promises everything a test can need."""
    return os.geteuid() == 0 and os.environ.get("CI", "").lower() in ("true", "1")


def writable_cgroups() -> bool:
    return any(os.access(path, os.W_OK) for path in Path("/sys/fs/cgroup").glob("*/cgroup.procs")) or os.access(
        "/sys/fs/cgroup/cgroup.procs", os.W_OK
    )


def pytest_configure() -> None:
    """A stopped run (SIGTERM, as from timeout(1)) tears down like an interrupted one: containers outlive who started
    them, so a test process that simply died would leave them behind."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root, cgroups = os.geteuid() == 0, writable_cgroups()
    for item in items:
        if item.get_closest_marker("root") and not root:
            item.add_marker(pytest.mark.skip(reason="needs root: namespaces, cgroups and mounts of its own"))
        if item.get_closest_marker("docker") and (why := engine.missing()):
            item.add_marker(pytest.mark.skip(reason=why))
        if item.get_closest_marker("cgroup") and not cgroups:
            item.add_marker(pytest.mark.skip(reason="needs a cgroup hierarchy that it may write to"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if ELSEWHERE not in reason:
            SKIPPED.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if SKIPPED and strict():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SKIPPED and strict():
        terminalreporter.section("skipped in CI, where nothing may be", red=True)
        for line in SKIPPED:
            terminalreporter.write_line(line)
