"""A git repository instead of a directory: each commit is what runs, and nothing else is."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.e2e import remotes
from tests.e2e.checks import eventually, gone, instance, not_restarted, restarted, running, state, until
from tests.e2e.world import Agent, World, sleeper
from tests.git import Upstream, gpg_home, ssh_key

SOON = ("--poll-interval", "200ms")


@pytest.fixture
def upstream(world: World) -> Upstream:
    return Upstream(world.base)


def follow(world: World, url: str, *more: object) -> Agent:
    return world.start(*SOON, *more, source=url).ready()


def commit_of(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = world.rows()[name]["commit"]
    return found


def converged(world: World, commit: str) -> None:
    """The commit is what is asked for, as `status` says."""
    eventually(
        lambda: f"commit: {commit} " in world.succeed("status"),
        f"{commit} is taken",
        seen=lambda: world.succeed("status"),
    )


def test_commits_add_edit_move_and_delete(world: World, upstream: Upstream) -> None:
    """Each row says of which commit its container is; what a commit does not touch is not touched."""
    upstream.write("web.yaml", sleeper("web", "810001"))
    upstream.write("db.yaml", sleeper("db"))
    first = upstream.push("two of them")
    world.succeed("plan", upstream.url, code=2)
    assert not world.root.exists(), "a plan leaves nothing"
    follow(world, upstream.url)
    web, db = instance(world, "web"), instance(world, "db")
    row = world.rows()["db"]
    assert (row["source"], row["commit"]["id"], row["commit"]["author"]) == ("db.yaml", first, "Ann")
    assert (row["commit"]["url"], row["commit"]["subject"]) == (upstream.url, "two of them")

    upstream.write("web.yaml", sleeper("web", "810002"))
    upstream.write("team/cache.yaml", sleeper("cache"))
    second = upstream.push("web edited, cache added")
    restarted(world, web, by="command")
    cache = instance(world, "cache")
    assert commit_of(world, "web")["id"] == commit_of(world, "cache")["id"] == second
    for verb in ("status", "why"):
        assert f"{upstream.url}#{second} by Ann" in world.succeed(verb, "web")

    upstream("mv", "team/cache.yaml", "cache.yaml")
    upstream("rm", "-q", "db.yaml")
    upstream.push("cache moved, db deleted")
    gone(world, "db", db)
    until(world, "cache", lambda row: row["source"] == "cache.yaml", "names the new file")
    not_restarted(world, cache)
    world.succeed("plan", upstream.url)
    world.succeed("apply", upstream.url)


def test_a_lost_remote_stops_nothing_and_the_next_agent_needs_none(world: World, upstream: Upstream) -> None:
    """Offline the last commit is enforced: what dies comes back, under a new agent too."""
    upstream.write("web.yaml", sleeper("web", backoff={"initial": "100ms"}))
    commit = upstream.push("web")
    agent = follow(world, upstream.url)
    before = instance(world, "web")
    upstream.bare.rename(world.aside / "lost")
    eventually(lambda: "cannot be fetched" in world.succeed("status"), "status tells")
    assert f"commit {commit} goes on" in world.succeed("status")
    os.kill(before.pid, 9)
    before = restarted(world, before)
    agent.stop()
    follow(world, upstream.url)
    not_restarted(world, before)
    assert world.reconciler("plan", upstream.url).returncode == 1
    os.kill(before.pid, 9)
    before = restarted(world, before)
    (world.aside / "lost").rename(upstream.bare)
    upstream.write("new.yaml", sleeper("new"))
    upstream.push("back again")
    state(world, "new", "Running")
    assert "cannot be fetched" not in world.succeed("status")
    not_restarted(world, before)


def test_rewritten_history_and_another_branch_are_simply_what_is_wanted(world: World, upstream: Upstream) -> None:
    """It is the same source: what the other branch has not is pruned. A vanished branch is unknown."""
    upstream.write("web.yaml", sleeper("web"))
    upstream.write("old.yaml", sleeper("old"))
    upstream.push("first")
    agent = follow(world, f"{upstream.url}#main")
    web, old = instance(world, "web"), instance(world, "old")
    upstream("rm", "-q", "old.yaml")
    upstream.write("new.yaml", sleeper("new"))
    upstream.push("first, otherwise", "--amend")
    gone(world, "old", old)
    new = instance(world, "new")
    not_restarted(world, web)
    agent.stop()

    upstream("checkout", "-q", "-b", "canary")
    upstream("rm", "-q", "new.yaml")
    canary = upstream.push("without it")
    follow(world, f"{upstream.url}#canary")
    gone(world, "new", new)
    not_restarted(world, web)
    converged(world, canary)
    upstream("push", "-q", "origin", ":canary")
    until(world, "web", lambda row: "has no branch canary" in row["message"], "tells of the branch")
    not_restarted(world, web)


def test_specs_that_all_vanish_are_unknown_and_many_are_held(world: World, upstream: Upstream) -> None:
    """The guards of a directory are those of a repository."""
    batch = [f"b{number}" for number in range(6)]
    for name in batch:
        upstream.write(f"{name}.yaml", sleeper(name))
    upstream.push("six")
    follow(world, upstream.url)
    before = [instance(world, name) for name in batch]
    upstream("rm", "-q", *(f"{name}.yaml" for name in batch))
    upstream.push("none", "--allow-empty")
    until(world, "b0", lambda row: "has no spec file" in row["message"], "its source is unknown")
    upstream.write("web.yaml", sleeper("web"))
    upstream.push("another one")
    state(world, "web", "Running")
    state(world, "b0", "Held")
    for each in before:
        assert each.alive


def test_a_commit_that_is_not_signed_is_not_applied(world: World, upstream: Upstream) -> None:
    """The last good one goes on, and the bad one is named."""
    key, line = ssh_key(world.base / "key", "ann@example.org")
    (world.base / "signers").write_text(line)
    for name, value in (("gpg.format", "ssh"), ("user.signingKey", str(key))):
        upstream("config", name, value)
    upstream.write("web.yaml", sleeper("web", "810011"))
    upstream.push("signed", "-S")
    follow(world, upstream.url, "--require-signed", world.base / "signers")
    before = instance(world, "web")
    upstream.write("web.yaml", sleeper("web", "810012"))
    unsigned = upstream.push("unsigned")
    eventually(lambda: f"commit {unsigned} is not signed" in world.succeed("status"), "status names it")
    not_restarted(world, before)
    upstream.push("signed after all", "-S", "--allow-empty")
    restarted(world, before)
    assert running(world, ["sleep", "810011"]) == 0


def test_a_signature_by_gnupg_counts_by_the_keys_of_its_home(world: World, upstream: Upstream) -> None:
    """One whose key is not in it is as good as none."""
    known, stranger = (gpg_home(world.base / name, f"{name}@example.org") for name in ("known", "stranger"))
    upstream.write("web.yaml", sleeper("web", "810013"))
    upstream.sign("signed", *stranger)
    answer = world.reconciler("apply", upstream.url, "--require-signed", known[0])
    assert answer.returncode == 1
    assert "is not signed" in answer.stdout + answer.stderr
    assert running(world, ["sleep", "810013"]) == 0
    upstream.sign("signed by whom we know", *known)
    world.succeed("apply", upstream.url, "--require-signed", known[0])
    assert running(world, ["sleep", "810013"]) == 1


@pytest.mark.skipif(remotes.SSHD is None, reason="openssh-server is not installed")
def test_a_repository_is_followed_over_ssh(world: World, upstream: Upstream) -> None:
    """With the key that ssh is told to use; a server that is gone is a lost remote."""
    upstream.write("web.yaml", sleeper("web", "810014"))
    upstream.push("web")
    with remotes.ssh_server(world) as (port, command):
        url = f"git+ssh://root@127.0.0.1:{port}{upstream.bare}"
        refused = world.reconciler("apply", url)
        assert refused.returncode == 1
        assert "Host key verification failed" in refused.stdout + refused.stderr
        world.variables["GIT_SSH_COMMAND"] = command
        follow(world, url)
        before = instance(world, "web")
        upstream.write("web.yaml", sleeper("web", "810015"))
        upstream.push("edited")
        before = restarted(world, before)
    eventually(lambda: "cannot be fetched" in world.succeed("status"), "status tells")
    not_restarted(world, before)


def test_a_repository_is_followed_over_https(world: World, upstream: Upstream) -> None:
    """By the certificate and the password that are the user's own; neither is shown."""
    upstream.write("web.yaml", sleeper("web", "810016"))
    upstream.push("web")
    with remotes.https_server(world, upstream.bare.parent) as port:
        url = f"git+https://localhost:{port}/{upstream.bare.name}"
        (world.base / ".netrc").rename(world.aside / "netrc")
        refused = world.reconciler("apply", url)
        assert refused.returncode == 1
        assert "could not read Username" in refused.stdout + refused.stderr
        (world.aside / "netrc").rename(world.base / ".netrc")
        follow(world, url)
        before = instance(world, "web")
        upstream.write("web.yaml", sleeper("web", "810017"))
        upstream.push("edited")
        before = restarted(world, before)
        assert remotes.PASSWORD not in world.succeed("status") + world.log() + "".join(world.transcript)
    eventually(lambda: "cannot be fetched" in world.succeed("status"), "status tells")
    not_restarted(world, before)


@pytest.mark.slow
def test_two_hundred_specs_converge_commit_by_commit(world: World, upstream: Upstream) -> None:
    """Edited by git's own operations; only what a commit changes is restarted."""
    names = [f"c{number:03}" for number in range(200)]
    for name in names:
        upstream.write(f"all/{name}.yaml", sleeper(name, suspend=name > "c039"))
    upstream.push("all")
    follow(world, upstream.url)
    before = {name: instance(world, name) for name in names[:40]}
    upstream("checkout", "-q", "-b", "feature")
    for name in names[:3]:
        upstream.write(f"all/{name}.yaml", sleeper(name, "810021"))
    upstream("commit", "-qam", "three edited")
    upstream("checkout", "-q", "main")
    upstream("mv", "all", "every")
    upstream("commit", "-qm", "all moved")
    upstream("merge", "-q", "--no-edit", "feature")
    converged(world, upstream.push("merged", "--allow-empty"))
    for name in names[:3]:
        before[name] = restarted(world, before[name])
    upstream("revert", "--no-edit", "-m", "1", "HEAD~1")
    converged(world, upstream.push("the merge reverted", "--allow-empty"))
    for name in names[:3]:
        before[name] = restarted(world, before[name])
    upstream("rm", "-q", *(f"every/{name}.yaml" for name in names[30:60]))
    converged(world, upstream.push("thirty deleted"))
    for name in names[30:40]:
        gone(world, name, before.pop(name))
    world.succeed("plan", upstream.url)
    rows = world.rows()
    assert rows.keys() == {*names[:30], *names[60:]}
    for name, each in before.items():
        assert each.alive and rows[name]["pid"] == each.pid
