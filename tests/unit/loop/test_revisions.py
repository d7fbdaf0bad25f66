"""Revisions and rollback: as values, and in a world without kernel and disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from reconciler.loop import revisions
from reconciler.loop.desired import desire
from reconciler.loop.revisions import Reverted, Revision, Rollback, changes, chosen, in_force, remembered, reverted
from reconciler.loop.values import Desired, Recorded, Tree
from reconciler.spec.normal import SCHEMA
from tests.unit.loop.values import NOW, SOURCE, desire_files, document, listing, record, recorded
from tests.unit.loop.world import World, play

ONE, TWO, THREE = (document("web", f"command: [v{number}]") for number in (1, 2, 3))
POD = document("web", "containers:\n  - {name: log, command: [tail]}")
BROKEN = document("web", "comand: [v4]")


def tree(text: str) -> Tree:
    return desire_files({"web.yaml": text}).trees["web"]


def history(*texts: str) -> tuple[Revision, ...]:
    kept: tuple[Revision, ...] = ()
    for number, text in enumerate(texts):
        kept = remembered(kept, tree(text), NOW + number)
    return kept


def back(kept: Sequence[Revision], to: int) -> Reverted:
    found = reverted(Rollback(to, kept[-1].digest, "alice", NOW), kept)
    assert isinstance(found, Reverted)
    return found


def asked(text: str, kept: Sequence[Revision], to: int, known: Recorded | None = None) -> Desired:
    files = listing({"web.yaml": text})
    return desire(files, known or Recorded(), SOURCE, rollbacks={"web": back(kept, to)})


def test_a_revision_is_made_of_what_differs_and_only_the_last_ones_are_kept() -> None:
    kept = history(ONE, ONE, TWO, "# a comment\n" + TWO, ONE)
    assert [(one.number, one.at) for one in kept] == [(1, NOW), (2, NOW + 2), (3, NOW + 4)]
    many = history(*(document("web", f"command: [v{number}]") for number in range(15)))
    assert [one.number for one in many] == list(range(6, 16))


def test_large_revisions_leave_earlier_ones_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisions, "LARGEST", 10)
    assert [one.number for one in history(ONE, TWO, THREE)] == [2, 3]


def test_what_changed_is_said_container_by_container() -> None:
    first, second, third = history(ONE, TWO, POD)
    assert changes(first, second) == ("command changed: [v1] → [v2]",)
    assert changes(second, third) == ("command changed: [v2] → not set", "web.log added")
    assert changes(third, second)[-1] == "web.log removed" and changes(None, first) == ()


def test_in_force_is_the_last_one_that_was_applied() -> None:
    kept = history(ONE, TWO, ONE, THREE)
    (spec,) = kept[0].load()
    applied = {"web": record(spec)}
    assert in_force(kept, applied, None) == 3, "3 is what 1 was"
    assert in_force(kept, applied, Rollback(2, kept[-1].digest)) == 2
    assert in_force(kept, {}, None) is None


def test_which_one_to_go_back_to() -> None:
    kept = history(ONE, TWO, THREE)
    assert chosen("web", kept, 3, None) == kept[1] and chosen("web", kept, 2, None) == kept[0]
    assert chosen("web", kept, 3, 1) == kept[0]
    assert chosen("web", kept, 1, None) == "web has no revision before 1: there is nothing to go back to"
    assert "kept are 1 to 3" in str(chosen("web", kept, 3, 9))
    assert "has no revisions" in str(chosen("web.log", (), None, None))


def test_what_was_set_aside_is_not_asked_for_and_any_other_content_is() -> None:
    kept = history(ONE, TWO)
    found = asked("# a comment changes nothing\n" + TWO, kept, to=1)
    assert found.containers["web"].spec.command == ("v1",) and found.refusals == {}
    said = "rolled back to revision 1; the present content of web.yaml is set aside until it is edited"
    assert found.rolled_back == {"web": said}
    for text in (THREE, ONE):
        edited = asked(text, kept, to=1)
        assert (edited.rolled_back, edited.containers) == ({}, desire_files({"web.yaml": text}).containers)


def test_an_invalid_content_does_not_end_it_and_is_told() -> None:
    kept = history(ONE, TWO)
    found = asked(BROKEN, kept, to=1)
    assert found.containers["web"].spec.command == ("v1",)
    assert "comand" in found.refusals["web"].message and "web" in found.rolled_back


def test_a_tree_goes_back_as_a_whole_to_the_file_of_today() -> None:
    kept = tuple(replace(one, origin=replace(one.origin, file="old.yaml", line=9)) for one in history(POD, ONE))
    found = asked(ONE, kept, to=1)
    assert found.containers.keys() == {"web", "web.log"}
    assert {want.origin.file for want in found.containers.values()} == {"web.yaml"}
    known = recorded(*(record(want.spec) for want in found.containers.values()))
    assert asked(ONE, kept, to=1, known=known).containers == found.containers


def test_a_mark_that_says_nothing_rolls_nothing_back() -> None:
    kept = history(ONE, TWO)
    marks = {"web": {}, "db": Rollback(1, "x").details(), "app": {"to": 7, "aside": "x"}}
    sound, failed = revisions.rollbacks(marks, lambda name: kept)
    assert (sound.keys(), failed.keys()) == ({"db"}, {"web", "app"})
    other = (replace(kept[0], schema=SCHEMA + 1), kept[1])
    assert "cannot be read" in str(reverted(Rollback(1, "x"), other))


# -- in the world -----------------------------------------------------------------------------------------


def command(world: World) -> list[str] | None:
    found = world.containers.configs["web"].spec.command if "web" in world.containers.known else None
    return list(found) if found else None


def test_a_rollback_lasts_across_agents_until_the_next_edit() -> None:
    world = World()

    async def scene() -> None:
        agent = await world.agent()
        for number, text in enumerate((ONE, TWO), 1):
            world.files.texts["web.yaml"] = text
            await agent.until(lambda number=number: command(world) == [f"v{number}"])  # type: ignore[misc]
        await agent.until(lambda: len(world.records.history.get("web", ())) == 2)
        outcome = await agent.reconciler.roll_back("web", None, "alice")
        assert (outcome.code, outcome.message.partition(";")[0]) == (0, "web is rolled back to revision 1")
        await agent.until(lambda: command(world) == ["v1"] and world.status("web") == "Running")
        await agent.kill()
        world.records.rows.clear()
        agent = await world.agent()
        await agent.until(lambda: world.status("web") == "Running")
        assert command(world) == ["v1"] and "set aside" in world.records.rows["web"].message
        launches = world.containers.launches["web"]
        world.files.texts["web.yaml"] = THREE
        await agent.until(lambda: command(world) == ["v3"])
        assert world.containers.launches["web"] == launches + 1
        await agent.until(lambda: "rolled back" not in world.records.rows["web"].message)
        assert world.records.marks(revisions.MARK) == {}
        assert [each.number for each in world.records.history["web"]] == [1, 2, 3]
        told = [event.type.value for event in world.records.told if event.type.value.startswith("Roll")]
        assert told == ["RolledBack", "RollbackEnded"]

    play(scene())


def test_a_rollback_is_taken_back_and_goes_with_its_name() -> None:
    world = World()

    async def scene() -> None:
        world.files.texts["web.yaml"] = ONE
        agent = await world.agent()
        await agent.until(lambda: command(world) == ["v1"])
        world.files.texts["web.yaml"] = TWO
        await agent.until(lambda: command(world) == ["v2"])
        await agent.reconciler.roll_back("web", 1, "alice")
        await agent.until(lambda: command(world) == ["v1"])
        await agent.reconciler.roll_forward("web")
        await agent.until(lambda: command(world) == ["v2"])
        await agent.reconciler.roll_back("web", 1, "alice")
        del world.files.texts["web.yaml"]
        await agent.until(lambda: world.status("web") == "gone")
        assert (world.records.marks(revisions.MARK), world.records.history) == ({}, {})

    play(scene())
