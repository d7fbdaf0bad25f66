"""`version`."""

from __future__ import annotations

import argparse
import json
import platform

from reconciler import __version__
from reconciler.agent.paths import Places


def configure(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace, places: Places) -> int:
    if args.output == "json":
        print(json.dumps({"version": __version__, "python": platform.python_version(), "kernel": platform.release()}))
    else:
        print(f"reconciler {__version__} (Python {platform.python_version()}, Linux {platform.release()})")
    return 0
