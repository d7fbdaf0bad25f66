"""The `reconciler` command: finds the verb, imports its module alone, and turns errors into exit codes.

0 done · 1 error · 2 (`plan`) changes · 3 another agent is in the way · 4 not found · 7 timed out · 64 usage, which
therefore no script takes for the changes of a plan · 130 interrupted.
Data goes to stdout, the rest to stderr. A user's mistake is one line that says what to do, never a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol

from reconciler.agent.paths import Places, places
from reconciler.errors import ReconcilerError

USAGE = 64
"""EX_USAGE of sysexits.h."""
OUTPUTS = ("table", "wide", "json", "name")

# verb → (module in this package, what it does)
VERBS: dict[str, tuple[str, str]] = {
    "check": ("check", "validate specs without touching anything"),
    "plan": ("plan", "say what would be done, with the cause of each action"),
    "apply": ("apply", "converge once and leave everything running"),
    "run": ("run", "follow a directory or a git repository and converge until told to stop"),
    "ps": ("ps", "list what there is"),
    "status": ("status", "how the source and each container are"),
    "why": ("why", "the chain from the file to what is the case"),
    "inspect": ("inspect", "everything known about one container, as JSON"),
    "stats": ("stats", "what containers use of CPU, memory and processes"),
    "metrics": ("metrics", "what containers use and what the loop does, for Prometheus"),
    "events": ("events", "what happened to containers, and to the source"),
    "logs": ("logs", "print a container's output"),
    "exec": ("exec", "run a command inside a container"),
    "attach": ("attach", "see a container's output and type into it"),
    "wait": ("wait", "wait until containers are running, ready, completed or gone"),
    "destroy": ("destroy", "end containers and leave nothing of them"),
    "suspend": ("suspend", "stop containers, and keep them stopped"),
    "resume": ("resume", "let suspended containers run again"),
    "history": ("history", "what a container's file asked for, revision by revision"),
    "rollback": ("rollback", "go back to an earlier revision, until the file is edited"),
    "images": ("images", "list the images of native containers"),
    "prune-images": ("prune_images", "remove images that no container uses"),
    "approve": ("approve", "let what is held be destroyed"),
    "schema": ("schema", "print the JSON Schema of a spec"),
    "explain": ("explain", "what a field of the spec means"),
    "doctor": ("doctor", "what this host can do, and what is amiss"),
    "version": ("version", "print the version"),
}


class Verb(Protocol):
    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace, places: Places) -> int: ...


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"reconciler: {message}\n")


def _global_options() -> argparse.ArgumentParser:
    """Accepted before the verb and after it."""
    parser = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("options of every verb")
    group.add_argument("--root", metavar="DIR", help="where state is kept")
    group.add_argument("--runtime-dir", metavar="DIR", help="where sockets and checkpoints are kept until a reboot")
    group.add_argument("--config", metavar="FILE", help="YAML file with options by their long names")
    group.add_argument("-o", "--output", choices=OUTPUTS, help="form of what is printed (default: table)")
    return parser


def _top(options: argparse.ArgumentParser) -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {summary}" for verb, (_, summary) in VERBS.items())
    parser = _Parser(
        prog="reconciler",
        usage="reconciler [options] VERB ...",
        description="Drop a YAML spec into a directory and the container runs.",
        epilog=f"verbs:\n{verbs}\n\n`reconciler VERB --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[options],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_const", dest="verb", const="version", help=argparse.SUPPRESS)
    return parser


def parse(argv: Sequence[str]) -> tuple[Verb, argparse.Namespace]:
    """The verb's module and its arguments. Exits with 64 for what cannot be understood."""
    options = _global_options()
    top = _top(options)
    at = _verb_at(argv)
    found = top.parse_args(argv[:at])
    verb = argv[at] if at < len(argv) else getattr(found, "verb", None)
    if verb is None:
        top.print_help(sys.stderr)
        raise SystemExit(USAGE)
    if verb not in VERBS:
        top.error(f"no such verb: {verb!r}{_meant(verb)}")
    name, summary = VERBS[verb]
    module: Verb = importlib.import_module(f"reconciler.cli.{name}")
    parser = _Parser(prog=f"reconciler {verb}", description=summary, parents=[options], allow_abbrev=False)
    module.configure(parser)
    args = parser.parse_args(argv[at + 1 :], namespace=found)
    for option in ("root", "runtime_dir", "config", "output"):
        if not hasattr(args, option):
            setattr(args, option, None)
    return module, args


def _verb_at(argv: Sequence[str]) -> int:
    """Index of the first word that is neither an option nor the value of one."""
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        takes_value = argv[at] in ("--root", "--runtime-dir", "--config", "-o", "--output")
        at += 2 if takes_value else 1
    return min(at, len(argv))


def _meant(verb: str) -> str:
    import difflib

    close = difflib.get_close_matches(verb, VERBS, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def main(argv: Sequence[str] | None = None) -> int:
    module, args = parse(sys.argv[1:] if argv is None else argv)
    try:
        if path := args.config or os.environ.get("RECONCILER_CONFIG"):
            from reconciler.cli.config import fill_in

            fill_in(args, path)
        args.output = args.output or "table"
        chosen = places(args.root, args.runtime_dir, os.environ, privileged=os.geteuid() == 0)
        code = module.run(args, chosen)
        sys.stdout.flush()
        return code
    except ReconcilerError as error:
        return _failed(error.message, getattr(error, "exit_code", 1))
    except BrokenPipeError:
        # who read our output has gone; without this, the interpreter complains when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _failed(str(error), 1)


def _failed(message: str, code: int) -> int:
    print(f"reconciler: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
