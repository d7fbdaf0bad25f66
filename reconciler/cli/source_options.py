"""The source that run, apply and plan converge: a directory or a git URL, and how it is followed."""

from __future__ import annotations

import argparse

from reconciler.agent.sources import POLL_INTERVAL, SourceChoice
from reconciler.agent.sources import chosen as choose
from reconciler.cli.wait import duration
from reconciler.errors import ReconcilerError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="DIR|URL",
        help="absolute or not, it is this path that owns its names; or git+file:///srv/specs.git#branch:path, "
        "git+ssh://…, git+https://…",
    )
    group = parser.add_argument_group("git")
    group.add_argument("--poll-interval", metavar="T", help=f"between two looks at a URL (default: {POLL_INTERVAL:g}s)")
    group.add_argument(
        "--require-signed",
        metavar="PATH",
        help="take only commits signed by an allowed signer: a file as of ssh-keygen -Y, or GnuPG's home directory",
    )


def chosen(args: argparse.Namespace) -> SourceChoice:
    interval = duration(args.poll_interval, "--poll-interval") if args.poll_interval is not None else POLL_INTERVAL
    if interval <= 0:
        raise ReconcilerError(f"--poll-interval {args.poll_interval}: must be longer than nothing")
    found = choose(args.source, interval, args.require_signed)
    if args.require_signed is not None and not found.remote:
        raise ReconcilerError(f"--require-signed: {found} is a directory, which nobody signs; give a git+ URL")
    return found
