"""The configuration file knows what the command line knows."""

from __future__ import annotations

import argparse

from reconciler.cli import agent_options, config


def test_every_flag_of_the_agent_can_stand_in_the_file() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    agent_options.add(parser)
    assert {action.dest for action in parser._actions} <= config.KNOWN
