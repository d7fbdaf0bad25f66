"""An isolator of one's own: a container may have so many files in its sandbox.

pip install ./examples/isolators/files
reconciler run --isolation default,example/files SPECS

    isolators: {example/files: {most: 100}}
"""

import os

from reconciler.runtime.isolators import options
from reconciler.runtime.isolators.isolator import LaunchInfo, Limitation, PassiveIsolator
from reconciler.states import Reason


class FilesIsolator(PassiveIsolator):
    name = "example/files"
    options = {"most": options.count, "interval": options.interval}

    def __init__(self, host):
        """host: the agent's directories and its launcher. Nothing about a container is kept here."""

    def prepare(self, config, context):
        """What a later agent has to know goes into the container's runtime directory, which goes with its run."""
        if self.name not in config.spec.isolators:
            return None
        given = {"interval": 5.0, **options.read(config.spec, self)}
        if "most" not in given:
            return None
        (context.runtime_dir / "files").write_text(f"{given['most']} {given['interval']}")
        return LaunchInfo(env={"FILES_MOST": str(given["most"])})

    def every(self, context):
        found = self._kept(context)
        return found and found[1]

    def watch(self, context):
        found = self._kept(context)
        if found is None:
            return None
        count = sum(len(names) for _, _, names in os.walk(os.path.join(*context.sandbox)))
        if count <= found[0]:
            return None
        return Limitation(Reason.LIMIT_EXCEEDED, f"{count} files in its sandbox, {found[0]:.0f} are allowed")

    def _kept(self, context):
        """(most, interval), None without a limit."""
        try:
            most, interval = (context.runtime_dir / "files").read_text().split()
        except FileNotFoundError:
            return None
        return float(most), float(interval)
