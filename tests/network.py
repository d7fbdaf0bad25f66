"""A network namespace that stands for a whole host: what a test does in it is nobody else's business."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from reconciler.runtime.kernel import syscalls


@contextlib.contextmanager
def own_host() -> Iterator[None]:
    """This thread, and whatever it starts, in a network namespace of its own with `lo` up."""
    with _held() as before:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        try:
            syscalls.loopback_up()
            yield
        finally:
            syscalls.setns(before, syscalls.CLONE_NEWNET)


@contextlib.contextmanager
def namespace() -> Iterator[int]:
    """The descriptor of another one, which this thread does not stay in."""
    with contextlib.ExitStack() as stack:
        with own_host():
            made = stack.enter_context(_held())
        yield made


@contextlib.contextmanager
def inside(netns: int) -> Iterator[None]:
    with _held() as before:
        syscalls.setns(netns, syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(before, syscalls.CLONE_NEWNET)


@contextlib.contextmanager
def _held() -> Iterator[int]:
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
