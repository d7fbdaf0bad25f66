"""A whole Debian system, made of packages, runs from an image as it was installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import images
from tests.e2e.checks import state
from tests.e2e.world import World, document

pytestmark = [
    pytest.mark.root,
    pytest.mark.cgroup,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]

SUITE = "bookworm"
REPORT = """set -e
dpkg --verify && dpkg --audit
. /etc/os-release && echo $VERSION_CODENAME
stat -c '%a %U:%G' /usr/bin/su /usr/sbin/unix_chkpwd /tmp /root
perl -e 'print join(" ", getpwnam("www-data")), "\\n"'
su --shell /bin/bash www-data --command 'id -un; touch /etc/x 2>&1 || true'
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tar of it, as mmdebstrap makes it of the mirror that this machine has."""
    made = tmp_path_factory.mktemp("debian") / "tree.tar"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=essential", SUITE, made], check=True, timeout=300)
    return made.read_bytes()


def test_every_file_of_every_package_is_as_it_was_installed(world: World, tree: bytes) -> None:
    """By dpkg's own sums; owners, set-user-id bits and users hold, nested and in a user namespace of its own."""
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    image = {"reference": images.oci(Path(world.base) / "debian", [tree], Env=[path], Cmd=["bash"])}
    inner = {"name": "inner", "image": image, "command": ["bash", "-c", REPORT], "restartPolicy": "Never"}
    for user in ("host", "private"):
        system = {"image": image, "command": ["sleep", "infinity"], "namespaces": {"user": user}, "containers": [inner]}
        world.write(f"{user}.yaml", document(user, **system))
    with world.agent():
        for user in ("host", "private"):
            assert state(world, f"{user}.inner", "Completed", within=90)["exit"]["code"] == 0
            said = world.succeed("logs", f"{user}.inner").splitlines()
            assert said[:5] == [SUITE, "4755 root:root", "2755 root:shadow", "1777 root:root", "700 root:root"]
            assert said[5].startswith("www-data * 33 33") and said[6] == "www-data"
            assert "Permission denied" in said[7]
