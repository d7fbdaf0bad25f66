"""Host ids for user namespaces: who gets which, and the plan of a container in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import Retryable, Terminal, Unsupported
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.isolators.namespaces import NamespacesIsolator
from reconciler.runtime.isolators.namespaces_user import (
    IDS,
    POOL,
    UserNamespaceIsolator,
    choose,
    parse_pool,
    set_aside,
)
from reconciler.runtime.kernel.userns import parse_map
from reconciler.runtime.launcher import inside
from tests.unit.runtime.test_plan import config, lines, linux

RUNTIME = Path("/nowhere/run")
FOUR = POOL[: 4 * IDS]
PRIVATE: dict[str, Any] = {"namespaces": {"user": "private"}}


def ranges(of: range = FOUR) -> st.SearchStrategy[range]:
    start = st.integers(of[0] - 2 * IDS, of[-1] + IDS)
    return st.builds(lambda first, size: range(first, first + size), start, st.integers(1, 2 * IDS))


@given(st.lists(ranges(), max_size=4), st.text(max_size=8))
def test_what_is_given_lies_in_the_pool_and_is_nobody_elses(used: list[range], name: str) -> None:
    given = choose(FOUR, used, name)
    if given is None:
        slots = [range(first, first + IDS) for first in range(FOUR[0], FOUR[-1], IDS)]
        assert all(any(slot[0] <= each[-1] and each[0] <= slot[-1] for each in used) for slot in slots)
    else:
        assert len(given) == IDS and given[0] >= FOUR[0] and given[-1] <= FOUR[-1]
        assert not any(given[0] <= each[-1] and each[0] <= given[-1] for each in used)


def test_a_name_begins_at_its_own_place() -> None:
    assert choose(POOL, [], "a/shop") == choose(POOL, [], "a/shop") != choose(POOL, [], "b/shop")


def test_a_namespace_with_all_of_the_hosts_ids_sets_nobody_apart() -> None:
    assert choose(FOUR, [range(2**32 - 1)], "x") is not None


def give(isolator: UserNamespaceIsolator, name: str) -> range:
    info = isolator.prepare(config(name=name, shell="x", **PRIVATE), Context(name, {}, RUNTIME))
    assert info is not None and info.user is not None and info.namespaces == {"user"}
    first = info.user["first"]
    assert isinstance(first, int) and info.user["size"] == IDS
    return range(first, first + IDS)


def test_ranges_are_held_from_prepare_to_cleanup() -> None:
    seen: list[range] = []
    isolator = UserNamespaceIsolator(RUNTIME, FOUR, "owner", lambda: seen)
    given = [give(isolator, name) for name in "abcd"]
    assert len(set(given)) == 4
    with pytest.raises(Retryable, match="--user-ids"):
        give(isolator, "e")
    assert give(isolator, "a") == given[0], "a launch that is tried again"
    isolator.cleanup(Context("c", {}, RUNTIME))
    isolator.cleanup(Context("c", {}, RUNTIME))
    assert give(isolator, "e") == given[2]


def test_what_another_agents_container_has_in_the_kernel_is_left_to_it() -> None:
    isolator = UserNamespaceIsolator(RUNTIME, FOUR, "owner", lambda: [FOUR[: 3 * IDS]])
    assert give(isolator, "a") == FOUR[3 * IDS :]


def test_accounts_and_what_users_were_given_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0::/:/bin/sh\nodd line\nbig:x:300000:7::/:/bin/sh\n")
    (tmp_path / "group").write_text("wheel:x:400000:\n")
    (tmp_path / "subuid").write_text("ann:100000:65536\nbad:x:y\n")
    found = set_aside(tmp_path)
    assert {range(300000, 300001), range(400000, 400001), range(100000, 165536)} <= set(found)
    assert set_aside(tmp_path / "missing") == []


def test_the_pool_is_first_to_last() -> None:
    assert parse_pool(None) == POOL and parse_pool("200000-400000") == range(200000, 400001)
    for text, what in {
        "x": "FIRST-LAST",
        "5-": "FIRST-LAST",
        "100000-100001": "needs 65536",
        "0-70000": "between 65536",
        "70000-4294967295": "between 65536",
    }.items():
        with pytest.raises(Terminal, match=what):
            parse_pool(text)


def test_a_map_is_read_by_its_outer_ids() -> None:
    assert parse_map("         0     100000      65536\n     65536 5 1\n") == [range(100000, 165536), range(5, 6)]


# ---- the plan


def test_the_child_becomes_root_of_it_first_and_what_is_the_hosts_is_taken_for_it() -> None:
    found = linux(name="shop", shell="x", **PRIVATE)
    assert found["steps"][0] == {"op": "credentials", "uid": 0, "gid": 0, "groups": []}
    assert not [line for line in lines(found) if line.startswith(("take", "detach"))]
    (sandbox,) = found["host_steps"]
    assert (sandbox["op"], sandbox["as"], sandbox["idmap"], sandbox["flags"]) == ("take", "sandbox", True, ["nodev"])
    assert found["user"]["size"] == IDS and found["user"]["detach"] == "/nowhere/run/pins"


def test_a_further_process_enters_it_and_becomes_its_root() -> None:
    own = linux(name="shop", shell="x", **PRIVATE)
    made = inside.plan(own, {"user", "mount", "pid"}, ["ps"], env={})
    assert made["steps"][0] == {"op": "enter", "of": "parent", "namespaces": ["mount", "user"]}
    assert made["steps"][1] == own["steps"][0]
    assert not {"user", "host_steps"} & made.keys()


def test_an_isolator_that_was_left_out_is_no_reason_to_share_the_hosts() -> None:
    spec = config(name="shop", shell="x", **PRIVATE)
    with pytest.raises(Unsupported, match="--isolation"):
        NamespacesIsolator(["namespaces/user"]).prepare(spec, Context("shop", {}, RUNTIME))


def test_an_account_beyond_it_is_refused() -> None:
    with pytest.raises(Terminal, match="70000"):
        linux(name="shop", shell="x", user="70000", **PRIVATE)
