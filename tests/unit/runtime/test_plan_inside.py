"""The plan of a further process in a container, and of terminals."""

from __future__ import annotations

from typing import Any

from reconciler.runtime.environment import gather
from reconciler.runtime.kernel.terminals import Size
from reconciler.runtime.launcher import inside
from reconciler.runtime.mesos import launch_plan
from tests.unit.runtime.test_plan import config, linux

WEB: dict[str, Any] = {"name": "shop.web", "command": ["httpd"], "env": {"A": "1"}, "user": "65534:12"}


def names(plan: dict[str, Any]) -> list[str]:
    return [step["op"] for step in plan["steps"]]


def test_it_enters_first_and_ends_as_the_container_itself_does() -> None:
    own = linux(**WEB)
    made = inside.plan(own, {"pid", "mount", "ipc"}, ["ps"], env={"B": "2"})
    assert made["steps"][0] == {"op": "enter", "of": "parent", "namespaces": ["ipc", "mount"]}
    assert made["steps"][1:] == own["steps"][names(own).index("workdir") :]
    assert (made["argv"], made["init"]) == (["ps"], False)
    assert made["env"] == {**own["env"], "B": "2"}


def test_a_container_with_a_terminal_lends_it_to_nobody() -> None:
    own = linux(**WEB, tty=True)
    made = inside.plan(own, set(), ["ps"], env={})
    assert "tty" not in made and "pump" not in made and "terminal" not in names(made)


def test_a_terminal_is_made_inside_before_the_working_directory_and_belongs_to_the_user() -> None:
    for plan in (linux(**WEB, tty=True), inside.plan(linux(**WEB), {"mount"}, ["sh"], env={}, tty=Size(24, 80))):
        at = names(plan).index("terminal")
        assert plan["steps"][at] == {"op": "terminal", "rows": 24, "columns": 80, "uid": 65534}
        assert names(plan)[at + 1] == "workdir" and plan["tty"] and plan["env"]["TERM"] == "xterm"


def test_what_goes_through_a_pump_says_so() -> None:
    assert linux(**WEB, tty=True)["pump"] == "tty"
    assert linux(**WEB, stdin=True)["pump"] == "pipes"
    assert "pump" not in linux(**WEB)


def test_a_debug_container_has_its_parents_place_and_its_own_additions() -> None:
    look = config(name="shop.web.look", shell="ps", env={"A": "2"}, workingDir="logs", tty=True)
    made = launch_plan.build_inside(look, gather(look), linux(**WEB), {"mount", "pid"})
    directory = next(step["target"] for step in made["steps"] if step["op"] == "workdir")
    assert directory == "/nowhere/root/containers/shop/sandbox/containers/web/logs"
    assert (made["name"], made["init"], made["pump"], made["env"]["A"]) == ("shop.web.look", True, "tty", "2")
