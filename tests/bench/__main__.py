"""All measurements, one after the other: `make bench`, or `python -m tests.bench [launch network latency crowd]`.

Prints tables with minima, medians and ratios; goals are shown, never asserted. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import connected, crowd, latency, launches, table

PARTS = ("launch", "network", "latency", "crowd")


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast and how small, beside others on the same machine.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("-n", "--count", type=int, default=40, help="launches per series (40)")
    parser.add_argument("--crowd", type=int, default=200, help="containers that are dropped at once (200)")
    parser.add_argument("--base", default=tempfile.gettempdir(), help="where the private directories are made")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        print("needs root: the others are measured as root too", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    base = Path(tempfile.mkdtemp(prefix="rcb", dir=options.base))
    print(table.machine())
    try:
        for part in options.parts or PARTS:
            place = base / part
            place.mkdir()
            if part == "launch":
                launches.measure(place, options.count)
            elif part == "network":
                connected.measure(place, options.count)
            elif part == "latency":
                latency.measure(place, options.count)
            else:
                crowd.measure(place, options.crowd)
        print(f"\n{table.machine()}")
    except (TimeoutError, ChildProcessError, subprocess.SubprocessError) as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
