"""Plans as text: a line per action, with its class, its name and its cause."""

from __future__ import annotations

from dataclasses import replace

from reconciler.loop.keeping import keep
from reconciler.loop.plan import as_json, plan, render
from reconciler.loop.values import Desired, Hold, Life, Observed, Recorded, Trouble
from reconciler.spec.normal import with_contents
from reconciler.states import ContainerState, Reason
from tests.unit.loop.values import (
    NOW,
    asked,
    desired,
    ended,
    exit_of,
    observed,
    record,
    recorded,
    spec,
    status,
)

WEB = spec("web", "sleep", "1")
SHOP, SHOP_WEB, SHOP_LOG = spec("shop"), spec("shop.web", "httpd"), spec("shop.log", "tail")


def text(*args: object, **fields: object) -> str:
    return render(plan(*args, NOW, **fields))  # type: ignore[arg-type]


def test_a_new_file_creates() -> None:
    assert text(desired(WEB), recorded(), observed()) == "create  web  new in web.yaml:1\n"


def test_what_runs_as_recorded_needs_nothing() -> None:
    assert text(desired(WEB), recorded(record(WEB)), observed(status(WEB))) == ""


def test_a_changed_command_restarts_and_says_from_what_to_what() -> None:
    changed = spec("web", "sleep", "2")
    found = text(desired(changed), recorded(record(WEB)), observed(status(WEB)))
    assert found == "restart  web  command changed: [sleep, 1] → [sleep, 2]\n"


def test_a_changed_label_only_rewrites_the_record() -> None:
    changed = spec("web", "sleep", "1", labels={"tier": "front"})
    found = text(desired(changed), recorded(record(WEB)), observed(status(WEB)))
    assert found == "live/record  web  labels.tier changed: not set → front\n"


def test_a_changed_limit_is_changed_in_place() -> None:
    changed = spec("web", "sleep", "1", resources={"limits": {"memory": 2**26}})
    found = text(desired(changed), recorded(record(WEB)), observed(status(WEB)))
    assert found == "live/update  web  resources.limits.memory changed: not set → 64Mi\n"


def test_a_labelled_instance_is_not_taken_for_an_older_version() -> None:
    labelled = spec("web", "sleep", "1", labels={"tier": "front"})
    assert text(desired(labelled), recorded(record(labelled)), observed(status(WEB))) == ""


def test_an_instance_of_another_spec_than_recorded_is_replaced() -> None:
    old = spec("web", "sleep", "0")
    found = text(desired(WEB), recorded(record(WEB)), observed(status(old)))
    assert found == "restart  web  it runs an older version\n"


def test_a_vanished_file_destroys_nested_before_parent() -> None:
    records = recorded(record(SHOP), record(SHOP_LOG), record(SHOP_WEB))
    found = text(desired(), records, observed(status(SHOP), status(SHOP_LOG), status(SHOP_WEB)))
    assert found == (
        "destroy  shop.web  web.yaml is gone\n"
        "destroy  shop.log  web.yaml is gone\n"
        "destroy  shop      web.yaml is gone  [after shop.log, shop.web]\n"
    )


def test_a_removed_nested_container_is_destroyed_alone() -> None:
    records = recorded(record(SHOP), record(SHOP_LOG), record(SHOP_WEB))
    seen = observed(status(SHOP), status(SHOP_LOG), status(SHOP_WEB))
    assert text(desired(SHOP, SHOP_WEB), records, seen) == "destroy  shop.log  web.yaml no longer has it\n"


def test_a_new_pod_starts_from_the_top() -> None:
    assert text(desired(SHOP_WEB, SHOP), recorded(), observed()) == (
        "create  shop      new in web.yaml:1\ncreate  shop.web  new in web.yaml:1  [after shop]\n"
    )


def test_a_replaced_parent_restarts_its_tree() -> None:
    changed = spec("shop", hostname="shop")
    records = recorded(record(SHOP), record(SHOP_WEB))
    assert text(desired(changed, SHOP_WEB), records, observed(status(SHOP), status(SHOP_WEB))) == (
        "restart  shop      hostname changed: not set → shop\n"
        "restart  shop.web  its parent shop restarts  [after shop]\n"
    )


def test_a_changed_nested_container_restarts_alone() -> None:
    changed = spec("shop.web", "httpd", "-f")
    records = recorded(record(SHOP), record(SHOP_WEB), record(SHOP_LOG))
    seen = observed(status(SHOP), status(SHOP_WEB), status(SHOP_LOG))
    found = text(desired(SHOP, changed, SHOP_LOG), records, seen)
    assert found == "restart  shop.web  command changed: [httpd] → [httpd, -f]\n"


def test_a_crashed_parent_takes_its_tree_along_but_not_a_finished_job() -> None:
    job = spec("shop.job", "true", restart_policy="Never")
    done = Life(starts=1, exit=exit_of(0), finished=True)
    crashed = Life(starts=1, failures=1, exit=exit_of(signal=9), next_try=NOW - 1)
    records = recorded(record(SHOP, crashed), record(SHOP_WEB), record(job, done))
    assert text(desired(SHOP, SHOP_WEB, job), records, observed(ended(SHOP, exit_of(signal=9)))) == (
        "restart  shop      not running: was killed by signal 9 (SIGKILL), 12 s ago, attempt 2\n"
        "restart  shop.web  its parent shop restarts  [after shop]\n"
    )


def test_a_replaced_parent_begins_a_new_generation_of_a_finished_job_too() -> None:
    job = spec("shop.job", "true", restart_policy="Never")
    records = recorded(record(SHOP), record(job, Life(starts=1, exit=exit_of(0), finished=True)))
    found = plan(desired(spec("shop", hostname="shop"), job), records, observed(status(SHOP)), NOW)
    assert [(action.name, action.renew) for action in found.actions] == [("shop", True), ("shop.job", True)]


def test_waiting_for_backoff_is_no_action_but_has_a_time() -> None:
    waiting = Life(starts=3, failures=3, exit=exit_of(3), next_try=NOW + 4)
    found = plan(desired(WEB), recorded(record(WEB, waiting)), observed(ended(WEB, exit_of(3))), NOW)
    assert (found.actions, found.wake_at) == ((), NOW + 4)


def test_a_crashed_container_is_started_again_when_its_time_has_come() -> None:
    waited = Life(starts=3, failures=3, exit=exit_of(3), next_try=NOW)
    found = text(desired(WEB), recorded(record(WEB, waited)), observed(ended(WEB, exit_of(3))))
    assert found == "restart  web  not running: exited with code 3, 12 s ago, attempt 4\n"


def test_a_changed_spec_does_not_wait_for_backoff() -> None:
    waiting = Life(starts=3, failures=3, exit=exit_of(3), next_try=NOW + 60)
    changed = spec("web", "sleep", "2")
    found = text(desired(changed), recorded(record(WEB, waiting)), observed(ended(WEB, exit_of(3))))
    assert found == "restart  web  command changed: [sleep, 1] → [sleep, 2]\n"


def test_a_finished_one_shot_stays_finished() -> None:
    done = Life(starts=1, exit=exit_of(0), finished=True)
    assert text(desired(WEB), recorded(record(WEB, done)), observed(ended(WEB, exit_of(0)))) == ""


def test_an_unknown_observation_holds() -> None:
    found = plan(desired(), recorded(record(WEB)), observed(web="docker does not answer"), NOW)
    assert found.actions == ()
    assert found.holds == (Hold("web", Reason.STATE_UNKNOWN, "docker does not answer"),)


def test_an_unreadable_record_holds_its_own_name_only() -> None:
    known = Recorded({}, {"web": "record.json: truncated"})
    assert text(desired(WEB, SHOP), known, observed(status(WEB))) == (
        "create  shop  new in web.yaml:1\nheld    web   record.json: truncated (RecordUnreadable)\n"
    )


def test_an_incomplete_listing_prunes_nothing() -> None:
    found = plan(desired(complete=False), recorded(record(WEB)), observed(status(WEB)), NOW)
    assert found.actions == ()
    assert [hold.reason for hold in found.holds] == [Reason.SOURCE_UNKNOWN]


def test_names_of_another_source_are_left_alone() -> None:
    other = record(WEB, source="/elsewhere")
    assert text(desired(), recorded(other), observed(status(WEB))) == ""


def test_a_container_without_a_record_is_an_orphan() -> None:
    found = text(desired(), recorded(), observed(status(WEB)))
    assert found == "destroy  web  it runs without a record, and no file asks for it\n"


def test_a_container_without_a_record_that_is_as_asked_for_is_adopted() -> None:
    found = text(desired(WEB), recorded(), observed(status(WEB)))
    assert found == "adopt  web  it runs as web.yaml:1 asks, without a record\n"


def test_a_removal_goes_on_although_the_file_is_back() -> None:
    leaving = replace(record(WEB), deleting=True)
    found = text(desired(WEB), recorded(leaving), observed(status(WEB, ContainerState.DESTROYING)))
    assert found == "destroy  web  its removal goes on\n"


def test_a_spec_moved_to_another_file_changes_nothing_that_runs() -> None:
    moved = Desired("/specs", {"web": asked(WEB, "new.yaml")})
    found = text(moved, recorded(record(WEB)), observed(status(WEB)))
    assert found == "live/record  web  moved from web.yaml to new.yaml\n"


def test_a_held_mass_deletion_destroys_nothing() -> None:
    known = recorded(record(WEB))
    want, _ = keep(desired(), known, before={"web"})
    found = plan(want, known, observed(status(WEB)), NOW)
    assert found.actions == ()
    assert [hold.reason for hold in found.holds] == [Reason.MASS_DELETION]


def test_nested_containers_wait_for_a_parent_that_cannot_start() -> None:
    waiting = Life(starts=1, failures=1, exit=exit_of(1), next_try=NOW + 1)
    records = recorded(record(SHOP, waiting), record(SHOP_WEB, Life()))
    assert text(desired(SHOP, SHOP_WEB), records, observed(ended(SHOP, exit_of(1)))) == ""


def test_what_outlived_its_parent_is_stopped() -> None:
    over = Life(starts=1, exit=exit_of(0), finished=True)
    main = spec("shop", "main", restart_policy="Never")
    records = recorded(record(main, over), record(SHOP_WEB))
    found = text(desired(main, SHOP_WEB), records, observed(ended(main, exit_of(0)), status(SHOP_WEB)))
    assert found == "destroy/stop  shop.web  its parent shop has ended\n"


def test_a_holder_ends_when_nothing_nested_will_run_again() -> None:
    job = spec("shop.job", "true", restart_policy="Never")
    records = recorded(record(SHOP), record(job, Life(starts=1, exit=exit_of(0), finished=True)))
    found = text(desired(SHOP, job), records, observed(status(SHOP), ended(job, exit_of(0))))
    assert found == "destroy/complete  shop  nothing nested in it will run again\n"


def test_a_finished_holder_comes_back_for_a_changed_job() -> None:
    job = spec("shop.job", "true", restart_policy="Never")
    done = Life(starts=1, exit=exit_of(0), finished=True)
    changed = spec("shop.job", "false", restart_policy="Never")
    assert text(desired(SHOP, changed), recorded(record(SHOP, done), record(job, done)), observed()) == (
        "restart  shop      shop.job, nested in it, will run\n"
        "restart  shop.job  command changed: [true] → [false]  [after shop]\n"
    )


def test_trouble_delays_the_same_goal_and_not_another() -> None:
    want = asked(WEB)
    trouble = Trouble(f"run:{want.digest}", Reason.LAUNCH_FAILED, "no space", NOW, 1, NOW + 5)
    found = plan(desired(WEB), recorded(), observed(), NOW, troubles={"web": trouble})
    assert (found.actions, found.wake_at) == ((), NOW + 5)
    changed = plan(desired(spec("web", "sleep", "2")), recorded(), observed(), NOW, troubles={"web": trouble})
    assert [action.name for action in changed.actions] == ["web"]


def test_what_someone_asked_to_destroy_goes_with_what_is_nested_in_it() -> None:
    records = recorded(record(SHOP), record(SHOP_WEB))
    found = plan(desired(SHOP, SHOP_WEB), records, observed(shop="silent"), NOW, doomed={"shop"})
    assert [action.name for action in found.actions] == ["shop.web", "shop"]


def test_the_json_of_a_plan_is_versioned() -> None:
    found = as_json(plan(desired(WEB), recorded(), Observed(), NOW))
    assert found["actions"] == [
        {"op": "create", "name": "web", "class": "create", "cause": "new in web.yaml:1", "after": []}
    ]
    assert (found["version"], found["holds"], found["wakeAt"]) == (1, [], None)


def test_the_remains_of_a_failed_launch_wait_like_any_failure() -> None:
    waiting = Life(starts=1, failures=1, exit=exit_of(127), next_try=NOW + 1)
    seen = observed(status(WEB, ContainerState.PREPARING))
    assert text(desired(WEB), recorded(record(WEB, waiting)), seen) == ""


def test_a_changed_content_restarts_and_a_new_key_does_not() -> None:
    def with_content(found: str) -> Desired:
        want = asked(WEB)
        contents = {"env.TOKEN": found}
        want = replace(want, digest=with_contents(want.digest, contents), contents=contents)
        return replace(desired(), containers={"web": want})

    def told(found: str) -> str:
        return text(with_content(found), recorded(before), observed(status(WEB)))

    contents = {"env.TOKEN": "key:old"}
    before = replace(record(WEB), digest=with_contents(record(WEB).digest, contents), contents=contents)
    assert told("key:old") == ""
    assert told("key:new") == "restart  web  the content of env.TOKEN changed\n"
    assert told("other:new") == "live/record  web  the same in a newer form of the spec\n"
