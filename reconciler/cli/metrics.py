"""`metrics`: what containers use and what the loop does, in the text format of Prometheus.

Works without an agent, of which it then says `reconciler_agent_up 0`. `run --metrics` serves the same over HTTP.
"""

from __future__ import annotations

import argparse

from reconciler.agent import metrics
from reconciler.agent.paths import Places


def configure(parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def run(args: argparse.Namespace, places: Places) -> int:
    print(metrics.look(places, metrics.ask(places)), end="")
    return 0
