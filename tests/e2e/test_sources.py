"""Bad, half-written, vanished: whatever the directory goes through, what runs goes on, visibly."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checks import (
    eventually,
    gone,
    instance,
    message_contains,
    not_restarted,
    restarted,
    running,
    state,
)
from tests.e2e.world import World, document, sleeper

BROKEN = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: web}\nspec:\n  comand: [sleep, infinity]\n"


def test_under_a_broken_file_the_last_good_version_runs_and_the_place_is_told(any_world: World) -> None:
    """File and line in `ps` and in `status`; repairing the file ends the remark without a restart."""
    any_world.write("web.yaml", sleeper("web"))
    with any_world.agent():
        before = instance(any_world, "web")
        any_world.rename_in("web.yaml", BROKEN)
        message_contains(any_world, "web", "web.yaml:5:", "comand", "command")
        not_restarted(any_world, before)
        assert "web.yaml:5:" in any_world.succeed("status", "web")
        any_world.rename_in("web.yaml", sleeper("web"))
        eventually(lambda: "web.yaml:5:" not in any_world.rows()["web"]["message"], "the remark is gone")
        not_restarted(any_world, before)


def test_an_empty_file_stops_nothing(world: World) -> None:
    """`> web.yaml` is an accident, not a deletion; nor is one that is no YAML at all, whose names cannot be read.
    What dies meanwhile comes back."""
    world.write("web.yaml", sleeper("web", "700001", backoff={"initial": "100ms"}))
    with world.agent():
        before = instance(world, "web")
        world.write("web.yaml", "")
        message_contains(world, "web", "web.yaml:1:")
        world.rename_in("web.yaml", "a:\n  [1, 2\nb: }\n")
        message_contains(world, "web", "web.yaml:3:")
        not_restarted(world, before)
        os.kill(before.pid, 9)
        restarted(world, before)


def test_a_broken_file_of_a_container_that_never_ran_is_invalid(world: World) -> None:
    """And does not delay `ready`, or the others."""
    world.write("web.yaml", BROKEN)
    world.write("db.yaml", sleeper("db"))
    with world.agent():
        row = state(world, "web", "Invalid")
        assert "web.yaml:5:" in row["message"] and row["pid"] is None
        state(world, "db", "Running")


def test_a_file_that_its_writer_still_has_open_is_not_acted_on(any_world: World) -> None:
    """However complete it looks, and however long it takes; closing it is what counts."""
    with any_world.agent(), (any_world.specs / "web.yaml").open("w") as half:
        any_world.own(any_world.specs / "web.yaml")
        half.write(sleeper("web", "700002"))
        half.flush()
        any_world.rename_in("other.yaml", sleeper("other"))
        state(any_world, "other", "Running")
        any_world.rename_in("third.yaml", sleeper("third"))
        state(any_world, "third", "Running")
        assert running(any_world, ["sleep", "700002"]) == 0
        half.close()
        state(any_world, "web", "Running")


def test_a_file_being_rewritten_keeps_its_old_version_running(world: World) -> None:
    """Truncated and half-written is no version."""
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        before = instance(world, "web")
        with (world.specs / "web.yaml").open("w") as half:
            half.write("apiVersion: recon")
            half.flush()
            world.rename_in("other.yaml", sleeper("other"))
            state(world, "other", "Running")
            not_restarted(world, before)
            half.seek(0)
            half.write(sleeper("web"))
        world.rename_in("third.yaml", sleeper("third"))
        state(world, "third", "Running")
        not_restarted(world, before)


def test_a_vanished_directory_stops_nothing(world: World) -> None:
    """It is unknown, never zero specs; and its return changes nothing either."""
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        before = instance(world, "web")
        world.specs.rename(world.base / "elsewhere")
        eventually(lambda: str(world.specs) in unknown(world), "status tells", seen=lambda: unknown(world))
        not_restarted(world, before)
        (world.base / "elsewhere").rename(world.specs)
        eventually(lambda: not unknown(world), "status tells no more", seen=lambda: unknown(world))
        not_restarted(world, before)
        world.rename_in("new.yaml", sleeper("new"))
        state(world, "new", "Running")


def unknown(world: World) -> str:
    """What `status` says of the directory as a whole, if it says that it is unknown."""
    answer = world.reconciler("status")
    said = answer.stdout + answer.stderr
    words = ("unknown", "does not exist", "cannot be", "No such file")
    return "\n".join(line for line in said.splitlines() if any(word in line for word in words))


def test_a_mass_deletion_is_held_until_it_is_approved(world: World) -> None:
    """At least five names and more than half of them in one listing: Held, and still running."""
    batch = [f"b{number}" for number in range(6)]
    for name in batch:
        world.write(f"batch/{name}.yaml", sleeper(name))
    world.write("web.yaml", sleeper("web"))
    with world.agent():
        before = [instance(world, name) for name in (*batch, "web")]
        (world.specs / "batch").rename(world.aside / "batch")
        for name in batch:
            state(world, name, "Held")
        assert all(each.alive for each in before)
        world.succeed("approve", "--all")
        for name, each in zip(batch, before, strict=False):
            gone(world, name, each)
        not_restarted(world, before[-1])


def test_a_mass_deletion_that_is_put_back_was_none(world: World) -> None:
    """A restored directory finds everything as it left it."""
    batch = [f"b{number}" for number in range(6)]
    for name in batch:
        world.write(f"batch/{name}.yaml", sleeper(name))
    with world.agent():
        before = [instance(world, name) for name in batch]
        (world.specs / "batch").rename(world.aside / "batch")
        state(world, "b0", "Held")
        (world.aside / "batch").rename(world.specs / "batch")
        for each in before:
            not_restarted(world, each)


def test_four_deleted_at_once_are_simply_deleted(world: World) -> None:
    """Below five names nobody is asked."""
    for number in range(4):
        world.write(f"batch/b{number}.yaml", sleeper(f"b{number}"))
    with world.agent():
        before = [instance(world, f"b{number}") for number in range(4)]
        (world.specs / "batch").rename(world.aside / "batch")
        for each in before:
            gone(world, each.name, each)


def test_of_two_files_with_one_name_the_running_one_wins_and_both_are_named(world: World) -> None:
    """A second file cannot take a name over."""
    world.write("b.yaml", sleeper("web", "700003"))
    with world.agent():
        before = instance(world, "web")
        world.write("a.yaml", sleeper("web", "700004"))
        message_contains(world, "web", "a.yaml", "b.yaml")
        not_restarted(world, before)
        assert running(world, ["sleep", "700004"]) == 0


def test_an_invalid_document_does_not_void_its_siblings(world: World) -> None:
    """In one file, the good ones run."""
    world.write("all.yaml", sleeper("one") + "---\n" + BROKEN + "---\n" + sleeper("two"))
    with world.agent():
        state(world, "one", "Running")
        state(world, "two", "Running")
        state(world, "web", "Invalid")


def test_a_pipe_a_dangling_link_and_a_linked_directory_are_ignored_and_listed(world: World) -> None:
    """Nothing blocks on them, and `status` says why they are not read."""
    os.mkfifo(world.specs / "pipe.yaml")
    (world.specs / "dangling.yaml").symlink_to("/no/such/file")
    (world.aside / "team").mkdir()
    (world.aside / "team" / "x.yaml").write_text(sleeper("x"))
    (world.specs / "team").symlink_to(world.aside / "team")
    (world.aside / "target").write_text(sleeper("linked"))
    (world.specs / "linked.yaml").symlink_to(world.aside / "target")
    with world.agent():
        state(world, "linked", "Running")
        assert set(world.rows()) == {"linked"}
        answer = world.reconciler("status")
        for path in ("pipe.yaml", "dangling.yaml"):
            assert path in answer.stdout + answer.stderr


def test_what_nothing_can_carry_out_is_blocked_with_its_place(world: World) -> None:
    """It is refused, never silently ignored."""
    world.write("web.yaml", document("web", command=["true"], resources={"requests": {"disk": "1Mi"}}))
    with world.agent():
        row = state(world, "web", "Blocked")
        assert row["reason"] == "NotSupported"
        assert "requests.disk" in row["message"] and "web.yaml:" in row["message"]


@pytest.mark.root
def test_a_file_on_a_file_system_that_hangs_keeps_only_who_refers_to_it_waiting(world: World) -> None:
    """One whose server never answers: it is told, nobody else waits, and it goes on once it answers."""
    share = world.aside / "share"
    share.mkdir()
    (share / "token").write_text("one")
    world.write("web.yaml", sleeper("web", env={"TOKEN": {"fromFile": str(share / "token")}}))
    with hanging(share):
        agent = world.start().ready()
        assert "hangs" in state(world, "web", "Blocked")["message"]
        world.rename_in("other.yaml", sleeper("other"))
        state(world, "other", "Running", within=5)
        world.delete("other.yaml")
        gone(world, "other")
    state(world, "web", "Running")
    agent.stop()


@contextlib.contextmanager
def hanging(directory: Path) -> Iterator[None]:
    """A file system whose server reads none of what it is asked (fuse(4))."""
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    mount = ["mount", "-i", "-t", "fuse", "-o", options, "hanging", str(directory)]
    subprocess.run(mount, check=True, pass_fds=[server])
    try:
        yield
    finally:
        os.close(server)
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
