"""Files as editors, archives, checkouts and mounts really leave them: acted on once, and never half."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.checks import eventually, gone, instance, message_contains, not_restarted, payload, restarted, state
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
    """A temporary dot file in the same directory, written in pieces, renamed."""
    (world.aside / "web.yaml").write_text(sleeper("web", after))
    subprocess.run(["rsync", "--checksum", f"{world.aside}/web.yaml", f"{world.specs}/"], check=True)


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
    if missing := [tool for tool in ("vim", "rsync") if shutil.which(tool) is None]:
        pytest.skip(f"needs {' and '.join(missing)}")
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


@pytest.mark.root
def test_events_that_are_lost_are_made_up_for_by_a_listing_and_told(world: World) -> None:
    """More come, while the agent stands still, than the kernel keeps for it."""
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    before = limit.read_text()
    try:
        limit.write_text("4")
    except OSError:
        pytest.skip("the limit cannot be changed here")
    try:
        agent = world.start().ready()
    finally:
        limit.write_text(before)
    agent.process.send_signal(signal.SIGSTOP)
    for number in range(20):
        world.write(f"{number}.txt", "no spec")
    world.write("web.yaml", sleeper("web"))
    agent.process.send_signal(signal.SIGCONT)
    state(world, "web", "Running")
    eventually(lambda: "max_queued_events" in world.succeed("status"), "status tells")
    assert "BAD  watch" in world.reconciler("doctor").stdout
    agent.stop()


def test_without_an_inotify_instance_changes_are_seen_by_listing_and_told(user_world: World) -> None:
    """And are once there is one again."""
    with no_instance_left(user_world.user):
        agent = user_world.start().ready()
        user_world.write("web.yaml", sleeper("web"))
        state(user_world, "web", "Running")
        eventually(lambda: "max_user_instances" in user_world.succeed("status"), "status tells")
        assert "BAD  watch" in user_world.reconciler("doctor").stdout
    eventually(lambda: "max_user_instances" not in user_world.succeed("status"), "status tells no more")
    agent.stop()


@contextlib.contextmanager
def no_instance_left(user: int | None) -> Iterator[None]:
    """A process of that user has them all (inotify(7): they are counted by real user)."""
    libc = ctypes.CDLL(None, use_errno=True)
    read, write = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            if user is not None:
                os.setresuid(user, user, user)
            while libc.inotify_init() >= 0:
                pass
            os.write(write, b"limit" if ctypes.get_errno() == errno.EMFILE else b"?")
            signal.pause()
        finally:
            os._exit(0)
    try:
        assert os.read(read, 5) == b"limit"
        yield
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        os.close(read)
        os.close(write)


def test_a_directory_that_cannot_be_read_stops_nothing(user_world: World) -> None:
    """Of it, or of a part of it, nothing is known until it can."""
    user_world.write("web.yaml", sleeper("web"))
    user_world.write("more/db.yaml", sleeper("db"))
    with user_world.agent():
        before = [instance(user_world, name) for name in ("web", "db")]
        for directory in (user_world.specs, user_world.specs / "more"):
            directory.chmod(0)
            eventually(lambda: "Permission denied" in user_world.succeed("status"), "status tells")
            directory.chmod(0o755)
            eventually(lambda: "Permission denied" not in user_world.succeed("status"), "status tells no more")
        for each in before:
            not_restarted(user_world, each)


def test_deletes_wait_until_all_can_be_read_and_adds_do_not(user_world: World) -> None:
    """What is no longer there may lie in the part that cannot be read; what is there is there."""
    user_world.write("web.yaml", sleeper("web"))
    user_world.write("more/db.yaml", sleeper("db"))
    with user_world.agent():
        web, db = (instance(user_world, name) for name in ("web", "db"))
        (user_world.specs / "more").chmod(0)
        eventually(lambda: "Permission denied" in user_world.succeed("status"), "status tells")
        user_world.delete("web.yaml")
        user_world.write("new.yaml", sleeper("new"))
        new = instance(user_world, "new")
        not_restarted(user_world, web)
        (user_world.specs / "more").chmod(0o755)
        gone(user_world, "web", web)
        not_restarted(user_world, db)
        not_restarted(user_world, new)
