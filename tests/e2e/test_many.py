"""A hundred containers come and go without a leak."""

from __future__ import annotations

import json

import pytest

from tests.e2e.checks import plan_is_empty
from tests.e2e.world import World, sleeper


@pytest.mark.slow
def test_a_hundred_specs_apply_and_are_destroyed_without_a_leak(any_world: World) -> None:
    """Nothing changes on a second apply either; the leak check follows."""
    names = {f"c{number:03d}" for number in range(100)}
    for name in names:
        any_world.write(f"{name}.yaml", sleeper(name))
    any_world.apply(timeout=120)
    rows = any_world.rows()
    assert {name for name, row in rows.items() if row["status"] == "Running"} == names
    assert len({row["pid"] for row in rows.values()}) == 100
    plan_is_empty(any_world)
    any_world.succeed("destroy", "--all", timeout=120)
    assert json.loads(any_world.succeed("ps", "-o", "json")) == []
    assert len(any_world.keepers()) <= 1


@pytest.mark.slow
def test_twenty_specs_replaced_by_twenty_others_leave_none_of_the_first(world: World) -> None:
    """Pruning and creating in one pass; the names of the first generation are gone everywhere."""
    for number in range(20):
        world.write(f"a{number}.yaml", sleeper(f"a{number}"))
    world.apply()
    for number in range(20):
        world.delete(f"a{number}.yaml")
        world.write(f"b{number}.yaml", sleeper(f"b{number}"))
    held = world.reconciler("apply", world.specs)
    assert held.returncode == 1, "dropping all twenty names is a mass deletion"
    assert {row["status"] for name, row in world.rows().items() if name.startswith("b")} == {"Running"}
    assert {row["status"] for name, row in world.rows().items() if name.startswith("a")} == {"Held"}
