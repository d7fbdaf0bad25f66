"""What the loop is told of this node: its labels, which `nodeSelector` is compared with, its hooks, what bounds it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from reconciler.agent.options import AgentOptions
from reconciler.loop.settings import Settings


def settings(options: AgentOptions) -> Settings:
    return Settings(
        node_labels=labels(dict(options.node_labels)),
        restarts_per_hour=options.max_restarts_per_hour,
        hooks=options.asked(),
    )


def labels(given: Mapping[str, str]) -> dict[str, str]:
    """uname(2)'s: hostname, os ("linux"), arch ("x86_64"), kernel ("6.1.0-18-amd64"); and those given."""
    uname = os.uname()
    own = {"hostname": uname.nodename, "os": uname.sysname.lower(), "arch": uname.machine, "kernel": uname.release}
    return own | dict(given)
