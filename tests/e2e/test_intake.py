"""Files as editors, archives, checkouts and mounts really leave them: acted on once, and never half."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable

import pytest

from tests.e2e.checks import eventually, instance, message_contains, not_restarted, payload, restarted, state
from tests.e2e.test_sources import BROKEN, unknown
from tests.e2e.world import World, sleeper
from tests.git import Upstream

Edit = Callable[[World, str, str], None]
"""(world, number before, number after): changes web.yaml."""


def by_vim(world: World, before: str, after: str) -> None:
    """The original is renamed to web.yaml~, a new file written in its place; the backup is kept."""
    script = ["set nocp backup writebackup backupcopy=no backupdir=. backupskip=", f"%s/{before}/{after}/", "wq"]
    commands = [word for line in script for word in ("-c", line)]
    subprocess.run(["vim", "-u", "NONE", "-es", *commands, str(world.specs / "web.yaml")], cwd=world.specs, check=True)


def by_sed(world: World, before: str, after: str) -> None:
    subprocess.run(["sed", "-i.bak", f"s/{before}/{after}/", str(world.specs / "web.yaml")], check=True)


def by_rsync(world: World, before: str, after: str) -> None:
    """Its system calls: a temporary dot file in the same directory, written in pieces, renamed."""
    temporary = world.specs / ".web.yaml.Xa3k9Z"
    text = sleeper("web", after)
    with temporary.open("w", buffering=1) as file:
        for at in range(0, len(text), 16):
            file.write(text[at : at + 16])
            file.flush()
    temporary.rename(world.specs / "web.yaml")


def by_tar(world: World, before: str, after: str) -> None:
    """The old file is unlinked, the new one created, with the archive's old time stamp."""
    data, member = sleeper("web", after).encode(), tarfile.TarInfo("web.yaml")
    member.size, member.mtime = len(data), 1_000_000_000
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(member, io.BytesIO(data))
    subprocess.run(["tar", "-xf", "-", "-C", str(world.specs)], input=archive.getvalue(), check=True)


def test_what_editors_and_copying_tools_do_is_one_change_each(world: World) -> None:
    """Backups that they leave are ignored and listed."""
    if shutil.which("vim") is None:
        pytest.skip("needs vim")
    world.write("web.yaml", sleeper("web", "820000"))
    edits: list[Edit] = [by_vim, by_sed, by_rsync, by_tar]
    with world.agent():
        before = instance(world, "web")
        generation = world.rows()["web"]["generation"]
        for number, edit in enumerate(edits):
            edit(world, f"82000{number}", f"82000{number + 1}")
            before = restarted(world, before)
            payload(world, "web", ["sleep", f"82000{number + 1}"])
        assert world.rows()["web"]["generation"] == generation + len(edits)
        told = world.succeed("status")
        for backup in ("web.yaml~", "web.yaml.bak"):
            assert f"{world.specs / backup}: its name does not end in" in told
        assert world.rows().keys() == {"web"}


def test_a_checkout_that_rewrites_hundreds_of_files_takes_nothing_away(world: World) -> None:
    """git deletes each file before it writes it anew; .git is none of ours."""
    upstream = Upstream(world.base)
    names = [f"c{number:03}" for number in range(15)]

    def write(edited: str) -> None:
        for name in names:
            upstream.write(f"{name}.yaml", sleeper(name, labels={"edited": edited}))
        for number in range(300):
            upstream.write(f"docs/{number}.txt", edited)

    write("no")
    upstream.push("first")
    upstream("checkout", "-q", "-b", "next")
    write("yes")
    upstream.push("every file edited")
    agent = world.start(source=upstream.tree).ready()
    before = [instance(world, name) for name in names]
    for branch in ("main", "next", "main"):
        upstream("checkout", "-q", branch)
    eventually(lambda: world.reconciler("plan", upstream.tree).returncode == 0, "it is as the branch says", within=20)
    assert world.rows().keys() == set(names)
    for each in before:
        not_restarted(world, each)
    assert "Destroyed" not in world.succeed("events", "-o", "json")
    agent.stop()


def test_a_projected_directory_is_swapped_by_its_link(world: World) -> None:
    """As a kubelet projects a ConfigMap: web.yaml → ..data/web.yaml, ..data → ..1, renamed over."""

    def project(version: str, seconds: str) -> None:
        (world.specs / version).mkdir()
        (world.specs / version / "web.yaml").write_text(sleeper("web", seconds))
        (world.specs / "..data_tmp").symlink_to(version)
        (world.specs / "..data_tmp").rename(world.specs / "..data")

    project("..1", "820101")
    (world.specs / "web.yaml").symlink_to("..data/web.yaml")
    with world.agent():
        before = instance(world, "web")
        project("..2", "820102")
        shutil.rmtree(world.specs / "..1")
        restarted(world, before)
        payload(world, "web", ["sleep", "820102"])


def test_a_spec_directory_that_is_a_link_is_flipped(world: World) -> None:
    """What both directories have goes on; while it dangles nothing is known, and nothing is done."""
    link = world.base / "current"
    for release, seconds in (("one", "820201"), ("two", "820202")):
        (world.aside / release).mkdir()
        (world.aside / release / "web.yaml").write_text(sleeper("web", seconds))
        (world.aside / release / "db.yaml").write_text(sleeper("db"))
    link.symlink_to(world.aside / "one")
    world.start(source=link).ready()
    web, db = instance(world, "web"), instance(world, "db")
    new = world.base / "new"
    new.symlink_to(world.aside / "two")
    new.rename(link)
    web = restarted(world, web)
    new.symlink_to(world.aside / "nothing")
    new.rename(link)
    eventually(lambda: unknown(world), "status tells")
    not_restarted(world, web)
    not_restarted(world, db)
    new.symlink_to(world.aside / "two")
    new.rename(link)
    eventually(lambda: not unknown(world), "status tells no more")
    not_restarted(world, web)


@pytest.mark.root
def test_a_mount_over_the_directory_hides_nothing_that_runs(world: World) -> None:
    """An empty tmpfs in its place is a mount gone wrong, never zero specs."""
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        before = instance(world, "web")
        subprocess.run(["mount", "-t", "tmpfs", "none", str(world.specs)], check=True)
        try:
            eventually(lambda: "another file system" in world.succeed("status"), "status tells")
            not_restarted(world, before)
        finally:
            subprocess.run(["umount", str(world.specs)], check=True)
        eventually(lambda: "another file system" not in world.succeed("status"), "status tells no more")
        not_restarted(world, before)
        world.rename_in("new.yaml", sleeper("new"))
        state(world, "new", "Running")


def test_the_last_good_version_goes_on_under_the_next_agent(world: World) -> None:
    """It is on record: a file that was broken meanwhile changes nothing, and what dies comes back."""
    world.write("web.yaml", sleeper("web", "820301", backoff={"initial": "100ms"}))
    with world.agent():
        before = instance(world, "web")
    world.rename_in("web.yaml", BROKEN)
    with world.agent():
        message_contains(world, "web", "web.yaml:5:")
        not_restarted(world, before)
        os.kill(before.pid, 9)
        restarted(world, before)
        payload(world, "web", ["sleep", "820301"])
