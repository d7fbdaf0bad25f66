"""This node's labels, which `nodeSelector` is compared with: uname(2)'s, and what `--node-label` adds or overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping


def labels(given: Mapping[str, str]) -> dict[str, str]:
    """hostname, os ("linux"), arch ("x86_64"), kernel ("6.1.0-18-amd64"), and those given."""
    uname = os.uname()
    own = {"hostname": uname.nodename, "os": uname.sysname.lower(), "arch": uname.machine, "kernel": uname.release}
    return own | dict(given)
