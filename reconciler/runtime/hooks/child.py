"""A hook that is a Python entry point, in a process of its own: `python -m reconciler.runtime.hooks.child NAME POINT`.

The entry point is anything with functions `pre_launch`, `post_fetch`, `remove`, of which it may lack some: a module, an
instance. Each takes the question as a dictionary; what it returns is the answer. A class is made an instance first.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import metadata

from reconciler.runtime.hooks.answers import GROUP

_FUNCTIONS = {"preLaunch": "pre_launch", "postFetch": "post_fetch", "remove": "remove"}


def main(name: str, point: str) -> None:
    answers, sys.stdout = os.dup(1), sys.stderr  # what it prints is no answer
    os.dup2(2, 1)
    found = tuple(metadata.entry_points(group=GROUP, name=name))
    if not found:
        sys.exit(f"no entry point of {GROUP} has the name {name}")
    hook = found[0].load()
    if isinstance(hook, type):
        hook = hook()
    function = getattr(hook, _FUNCTIONS[point], None)
    if function is None:
        return
    answer = function(json.load(sys.stdin))
    if answer is not None:
        with os.fdopen(answers, "w") as out:
            json.dump(answer, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
