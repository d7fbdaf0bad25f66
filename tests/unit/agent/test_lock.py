"""One agent per root, and one root per runtime directory."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from reconciler.agent.lock import AgentAlive, AgentLock, holder, known_owner, owner_id, remembered_flags
from reconciler.agent.paths import Places
from reconciler.errors import ReconcilerError


def test_a_second_agent_is_told_the_pid_and_the_source_of_the_first(places: Places) -> None:
    with AgentLock(places, "/specs"), pytest.raises(AgentAlive) as refusal, AgentLock(places, "/other"):
        pass
    assert refusal.value.pid == os.getpid()
    assert f"pid {os.getpid()}, on /specs" in refusal.value.message


def test_asking_who_holds_the_lock_neither_makes_nor_takes_it(places: Places) -> None:
    assert holder(places) is None
    assert not places.root.exists()
    with AgentLock(places, "/specs"):
        found = holder(places)
    assert found is not None and (found.pid, found.source) == (os.getpid(), "/specs")
    assert holder(places) is None


def test_a_lock_file_left_by_a_dead_agent_holds_nothing(places: Places) -> None:
    places.root.mkdir()
    places.lock.write_text('{"pid": 1, "source": "/specs"}')
    assert holder(places) is None
    with AgentLock(places, None):
        assert holder(places) is not None


def test_a_torn_lock_file_still_locks(places: Places) -> None:
    with AgentLock(places, "/specs"):
        places.lock.write_text('{"pid"')
        found = holder(places)
        assert found is not None and found.pid is None


def test_a_link_in_place_of_the_lock_is_not_followed(places: Places) -> None:
    places.root.mkdir()
    target = places.root.parent / "victim"
    target.write_text("precious")
    places.lock.symlink_to(target)
    with pytest.raises(OSError, match="lock"), AgentLock(places, None):
        pass
    assert target.read_text() == "precious"


def test_a_runtime_directory_belongs_to_one_root(places: Places) -> None:
    with AgentLock(places, None):
        pass
    other = replace(places, root=places.root.with_name("other"))
    with pytest.raises(ReconcilerError, match=f"is the runtime directory of the root {places.root}"):
        AgentLock(other, None).__enter__()


def test_a_runtime_directory_of_a_root_that_is_gone_can_be_taken(places: Places) -> None:
    with AgentLock(places, None):
        pass
    places.root.rename(places.root.with_name("elsewhere"))
    with AgentLock(replace(places, root=places.root.with_name("other")), None):
        pass


def test_flags_are_remembered_until_others_are_given(places: Places) -> None:
    with AgentLock(places, "/specs", {"launcher": "posix"}):
        pass
    with AgentLock(places, None):
        assert remembered_flags(places) == {"launcher": "posix"}
    with AgentLock(places, None, {"launcher": None}):
        assert remembered_flags(places) == {"launcher": None}


def test_the_owner_is_made_once_and_only_when_needed(places: Places) -> None:
    assert known_owner(places) is None
    places.root.mkdir()
    owner = owner_id(places)
    assert len(owner) == 12
    assert owner_id(places) == owner == known_owner(places)
