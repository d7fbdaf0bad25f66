"""Bad, half-written, vanished: whatever the directory goes through, what runs goes on, visibly."""

from __future__ import annotations

import os

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


def test_a_file_that_is_no_yaml_at_all_stops_nothing(any_world: World) -> None:
    """Whose names cannot even be read: those recorded from it go on."""
    any_world.write("web.yaml", sleeper("web"))
    with any_world.agent():
        before = instance(any_world, "web")
        any_world.rename_in("web.yaml", "a: [1, 2\nb: }\n")
        message_contains(any_world, "web", "web.yaml:")
        not_restarted(any_world, before)


def test_an_empty_file_stops_nothing(any_world: World) -> None:
    """`> web.yaml` is an accident, not a deletion."""
    any_world.write("web.yaml", sleeper("web"))
    with any_world.agent():
        before = instance(any_world, "web")
        any_world.write("web.yaml", "")
        message_contains(any_world, "web", "web.yaml")
        not_restarted(any_world, before)


def test_a_last_good_version_that_dies_under_a_broken_file_comes_back(any_world: World) -> None:
    """It is still what is wanted."""
    any_world.write("web.yaml", sleeper("web", "700001", backoff={"initial": "100ms"}))
    with any_world.agent():
        before = instance(any_world, "web")
        any_world.rename_in("web.yaml", BROKEN)
        message_contains(any_world, "web", "web.yaml:5:")
        os.kill(before.pid, 9)
        restarted(any_world, before)


def test_a_broken_file_of_a_container_that_never_ran_is_invalid(any_world: World) -> None:
    """And does not delay `ready`, or the others."""
    any_world.write("web.yaml", BROKEN)
    any_world.write("db.yaml", sleeper("db"))
    with any_world.agent():
        row = state(any_world, "web", "Invalid")
        assert "web.yaml:5:" in row["message"] and row["pid"] is None
        state(any_world, "db", "Running")


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


def test_a_file_being_rewritten_keeps_its_old_version_running(any_world: World) -> None:
    """Truncated and half-written is no version."""
    any_world.write("web.yaml", sleeper("web"))
    with any_world.agent():
        before = instance(any_world, "web")
        with (any_world.specs / "web.yaml").open("w") as half:
            half.write("apiVersion: recon")
            half.flush()
            any_world.rename_in("other.yaml", sleeper("other"))
            state(any_world, "other", "Running")
            not_restarted(any_world, before)
            half.seek(0)
            half.write(sleeper("web"))
        any_world.rename_in("third.yaml", sleeper("third"))
        state(any_world, "third", "Running")
        not_restarted(any_world, before)


def test_a_vanished_directory_stops_nothing(any_world: World) -> None:
    """It is unknown, never zero specs; and its return changes nothing either."""
    any_world.write("web.yaml", sleeper("web"))
    with any_world.agent():
        before = instance(any_world, "web")
        any_world.specs.rename(any_world.base / "elsewhere")
        eventually(lambda: str(any_world.specs) in unknown(any_world), "status tells", seen=lambda: unknown(any_world))
        not_restarted(any_world, before)
        (any_world.base / "elsewhere").rename(any_world.specs)
        eventually(lambda: not unknown(any_world), "status tells no more", seen=lambda: unknown(any_world))
        not_restarted(any_world, before)
        any_world.rename_in("new.yaml", sleeper("new"))
        state(any_world, "new", "Running")


def unknown(world: World) -> str:
    """What `status` says of the directory as a whole, if it says that it is unknown."""
    answer = world.reconciler("status")
    said = answer.stdout + answer.stderr
    words = ("unknown", "does not exist", "cannot be", "No such file")
    return "\n".join(line for line in said.splitlines() if any(word in line for word in words))


def test_a_mass_deletion_is_held_until_it_is_approved(any_world: World) -> None:
    """At least five names and more than half of them in one listing: Held, and still running."""
    batch = [f"b{number}" for number in range(6)]
    for name in batch:
        any_world.write(f"batch/{name}.yaml", sleeper(name))
    any_world.write("web.yaml", sleeper("web"))
    with any_world.agent():
        before = [instance(any_world, name) for name in (*batch, "web")]
        (any_world.specs / "batch").rename(any_world.aside / "batch")
        for name in batch:
            state(any_world, name, "Held")
        assert all(each.alive for each in before)
        any_world.succeed("approve", "--all")
        for name, each in zip(batch, before, strict=False):
            gone(any_world, name, each)
        not_restarted(any_world, before[-1])


def test_a_mass_deletion_that_is_put_back_was_none(any_world: World) -> None:
    """A restored directory finds everything as it left it."""
    batch = [f"b{number}" for number in range(6)]
    for name in batch:
        any_world.write(f"batch/{name}.yaml", sleeper(name))
    with any_world.agent():
        before = [instance(any_world, name) for name in batch]
        (any_world.specs / "batch").rename(any_world.aside / "batch")
        state(any_world, "b0", "Held")
        (any_world.aside / "batch").rename(any_world.specs / "batch")
        for each in before:
            not_restarted(any_world, each)


def test_four_deleted_at_once_are_simply_deleted(any_world: World) -> None:
    """Below five names nobody is asked."""
    for number in range(4):
        any_world.write(f"batch/b{number}.yaml", sleeper(f"b{number}"))
    with any_world.agent():
        before = [instance(any_world, f"b{number}") for number in range(4)]
        (any_world.specs / "batch").rename(any_world.aside / "batch")
        for each in before:
            gone(any_world, each.name, each)


def test_of_two_files_with_one_name_the_running_one_wins_and_both_are_named(any_world: World) -> None:
    """A second file cannot take a name over."""
    any_world.write("b.yaml", sleeper("web", "700003"))
    with any_world.agent():
        before = instance(any_world, "web")
        any_world.write("a.yaml", sleeper("web", "700004"))
        message_contains(any_world, "web", "a.yaml", "b.yaml")
        not_restarted(any_world, before)
        assert running(any_world, ["sleep", "700004"]) == 0


def test_an_invalid_document_does_not_void_its_siblings(any_world: World) -> None:
    """In one file, the good ones run."""
    any_world.write("all.yaml", sleeper("one") + "---\n" + BROKEN + "---\n" + sleeper("two"))
    with any_world.agent():
        state(any_world, "one", "Running")
        state(any_world, "two", "Running")
        state(any_world, "web", "Invalid")


def test_a_pipe_a_dangling_link_and_a_linked_directory_are_ignored_and_listed(any_world: World) -> None:
    """Nothing blocks on them, and `status` says why they are not read."""
    os.mkfifo(any_world.specs / "pipe.yaml")
    (any_world.specs / "dangling.yaml").symlink_to("/no/such/file")
    (any_world.aside / "team").mkdir()
    (any_world.aside / "team" / "x.yaml").write_text(sleeper("x"))
    (any_world.specs / "team").symlink_to(any_world.aside / "team")
    (any_world.aside / "target").write_text(sleeper("linked"))
    (any_world.specs / "linked.yaml").symlink_to(any_world.aside / "target")
    with any_world.agent():
        state(any_world, "linked", "Running")
        assert set(any_world.rows()) == {"linked"}
        answer = any_world.reconciler("status")
        for path in ("pipe.yaml", "dangling.yaml"):
            assert path in answer.stdout + answer.stderr


def test_what_does_not_work_yet_is_blocked_with_its_place(any_world: World) -> None:
    """A field whose runtime does not exist is refused, never silently ignored."""
    any_world.write("web.yaml", document("web", command=["true"], image={"reference": "busybox"}))
    with any_world.agent():
        row = state(any_world, "web", "Blocked")
        assert row["reason"] == "NotSupportedYet"
        assert "image" in row["message"] and "web.yaml:" in row["message"]
