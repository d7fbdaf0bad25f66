"""A git source on real repositories: what it lists after which commit, and what it refuses to be fooled by."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from reconciler.errors import ReconcilerError
from reconciler.spec.sources.git.address import GitAddress, parse
from reconciler.spec.sources.git.command import Git, GitFailed, environment, telling
from reconciler.spec.sources.git.contents import Blob, select
from reconciler.spec.sources.git.source import GitSource
from reconciler.spec.sources.listing import Listing, ListingState
from tests.git import Upstream, ssh_key

DOCUMENT = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: %s}\nspec: {shell: 'true'}\n"


def names(listing: Listing) -> list[str]:
    return [document.name for entry in listing.files for document in entry.parsed.documents]


def files(listing: Listing) -> list[str]:
    return [entry.path for entry in listing.files]


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    made = Upstream(tmp_path)
    made.write("web.yaml", DOCUMENT % "web")
    made.push("first")
    return made


def source(upstream: Upstream, where: str = "", signers: Path | None = None) -> GitSource:
    state = upstream.tree.parent / "state"
    address = parse(upstream.url + where)
    return GitSource(address, state, lambda: None, interval=60, signers=signers, clock=time.time)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("git+file:///srv/specs.git", GitAddress("file:///srv/specs.git")),
        ("git+ssh://git@host:22/specs#main", GitAddress("ssh://git@host:22/specs", "main")),
        ("git+https://host/specs#:prod/", GitAddress("https://host/specs", "", "prod")),
        ("git+https://host/specs#a/b:./x//y", GitAddress("https://host/specs", "a/b", "x/y")),
    ],
)
def test_an_address_is_read_and_written_back(text: str, address: GitAddress) -> None:
    assert parse(text) == address == parse(str(address))


@pytest.mark.parametrize(
    "text",
    ["git+http://h/x", "git+ext::sh", "git+file://relative", "git+https://h", "git+https://u:secret@h/x"]
    + [f"git+https://h/x#{where}" for where in ("-f", "a..b", "a b", "main:../x", "x.lock")],
)
def test_what_is_no_address_is_refused_without_its_secret(text: str) -> None:
    with pytest.raises(ReconcilerError) as refused:
        parse(text)
    assert "secret" not in refused.value.message


def test_a_branch_is_where_a_source_is_and_a_path_is_who_it_is() -> None:
    main, next, other = (parse(f"git+https://h/x#{where}") for where in ("main:a", "next:a", "main:b"))
    assert main.identity == next.identity != other.identity


def test_nothing_of_the_callers_git_and_no_prompt_reaches_git() -> None:
    found = environment({"GIT_DIR": "/x", "GIT_INDEX_FILE": "y", "DISPLAY": ":0", "HOME": "/h", "PATH": "/b"}, "https")
    assert {"GIT_DIR", "GIT_INDEX_FILE", "DISPLAY"} & found.keys() == set()
    assert (found["GIT_TERMINAL_PROMPT"], found["GIT_ALLOW_PROTOCOL"], found["HOME"]) == ("0", "https", "/h")
    assert "BatchMode=yes" in found["GIT_SSH_COMMAND"]


def test_files_are_chosen_by_the_rules_of_a_directory_and_links_stay_inside() -> None:
    regular, link = Blob("100644", "f", 1), "120000"
    tree = {
        **dict.fromkeys(("p/a.yaml", "p/.b.yaml", "p/.d/c.yaml", "p/README", "q/d.json", "p/s/e.yml"), regular),
        **{f"p/{target.decode()}.yaml": Blob(link, target.decode(), 4) for target in (b"in", b"out", b"abs", b"loop")},
        "p/team": Blob(link, "team", 4),
        "p/gone.yaml": Blob(link, "gone", 4),
        "p/module": Blob("160000", "m", 0),
    }
    targets = {"in": b"../q/d.json", "out": b"../../etc/passwd", "abs": b"/etc/passwd", "loop": b"loop.yaml"}
    found = select(tree, {**targets, "team": b"../q", "gone": b"nothing"}, "p")
    assert sorted(found.files) == ["p/a.yaml", "p/in.yaml", "p/s/e.yml"]
    assert dict(found.ignored) == {
        "p/README": "its name does not end in .yaml, .yml, .json",
        "p/abs.yaml": "a link out of the repository",
        "p/gone.yaml": "a dangling link",
        "p/loop.yaml": "a loop of links",
        "p/module": "a submodule",
        "p/out.yaml": "a link out of the repository",
        "p/team": "a symlinked directory",
    }


def test_a_listing_is_of_one_commit_and_says_which(upstream: Upstream) -> None:
    one = source(upstream)
    assert names(one.list()) == ["web"]
    upstream.write("prod/db.yaml", DOCUMENT % "db")
    commit = upstream.push("second: a database")
    assert names(one.list()) == ["web"], "nothing is fetched by listing"
    assert one.refresh() == ""
    found = one.list()
    assert files(found) == ["prod/db.yaml", "web.yaml"]
    assert found.commit is not None
    assert (found.commit.id, found.commit.author, found.commit.subject) == (commit, "Ann", "second: a database")


def test_rewritten_history_is_simply_what_is_wanted_now(upstream: Upstream) -> None:
    one = source(upstream)
    one.refresh()
    upstream.write("web.yaml", DOCUMENT % "other")
    upstream.push("first, again", "--amend")
    assert (one.refresh(), names(one.list())) == ("", ["other"])


def test_a_lost_remote_changes_nothing_also_for_the_next_agent(upstream: Upstream) -> None:
    source(upstream).refresh()
    upstream.bare.rename(upstream.bare.with_name("away"))
    one = source(upstream)
    one.start()
    found = one.list()
    one.stop()
    assert (found.state, names(found)) == (ListingState.OK, ["web"])
    again = source(upstream)
    note = again.refresh()
    assert "cannot be fetched" in note and found.commit is not None and found.commit.id in note
    assert "does not appear to be a git repository" in note
    upstream.bare.with_name("away").rename(upstream.bare)
    assert again.refresh() == ""


@pytest.mark.parametrize("where", ["#main", "#:prod"])
def test_a_vanished_branch_or_path_is_unknown_and_what_it_had_is_still_listed(upstream: Upstream, where: str) -> None:
    upstream.write("prod/web.yaml", DOCUMENT % "web")
    (upstream.tree / "web.yaml").unlink()
    upstream.push("moved")
    one = source(upstream, where)
    one.refresh()
    if where == "#main":
        upstream("push", "-q", "origin", "HEAD:refs/heads/other")
        (upstream.bare / "HEAD").write_text("ref: refs/heads/other\n")
        upstream("push", "-q", "origin", ":main")
    else:
        upstream.write("elsewhere/web.yaml", DOCUMENT % "web")
        (upstream.tree / "prod/web.yaml").unlink()
        upstream.push("moved on")
    assert one.refresh() != ""
    found = one.list()
    assert (found.state, names(found)) == (ListingState.UNKNOWN, ["web"])
    assert found.reason


def test_a_repository_without_a_commit_is_unknown(tmp_path: Path) -> None:
    found = source(Upstream(tmp_path)).list()
    assert (found.state, found.files) == (ListingState.UNKNOWN, ())
    assert "has no commit yet" in found.reason


def test_only_a_commit_of_an_allowed_signer_is_taken(upstream: Upstream, tmp_path: Path) -> None:
    """An unsigned one and one of a stranger are shown and left aside."""
    key, line = ssh_key(tmp_path / "ann", "ann@example.org")
    stranger, _ = ssh_key(tmp_path / "eve", "ann@example.org")
    signers = tmp_path / "signers"
    signers.write_text(line)
    upstream("config", "gpg.format", "ssh")
    one = source(upstream, signers=signers)
    assert one.list().state is ListingState.UNKNOWN
    upstream("config", "user.signingKey", str(key))
    good = upstream.push("signed", "--allow-empty", "-S")
    assert one.refresh() == ""
    for who, options in (("nobody", []), ("eve", ["-S"])):
        upstream("config", "user.signingKey", str(stranger))
        upstream.write("web.yaml", DOCUMENT % who)
        bad = upstream.push(f"by {who}", *options)
        assert bad in one.refresh() and good in one.note
        found = one.list()
        assert (found.state, names(found)) == (ListingState.OK, ["web"])
    assert names(source(upstream, signers=signers).list()) == ["web"], "nor by the next agent"


def test_a_repository_of_ours_that_was_damaged_is_made_anew(upstream: Upstream) -> None:
    source(upstream).refresh()
    (kept,) = (upstream.tree.parent / "state").iterdir()
    for pack in [path for path in kept.glob("objects/**/*") if path.is_file()]:
        pack.unlink()
    assert names(source(upstream).list()) == ["web"]


def test_what_a_killed_git_leaves_is_in_nobodys_way(upstream: Upstream) -> None:
    source(upstream).refresh()
    (kept,) = (upstream.tree.parent / "state").iterdir()
    for lock in ("shallow.lock", "HEAD.lock", "refs/reconciler/next.lock"):
        (kept / lock).touch()
    upstream.write("db.yaml", DOCUMENT % "db")
    upstream.push("second")
    assert source(upstream).refresh() == ""


def test_a_file_that_is_too_long_is_an_error_of_its_own(upstream: Upstream) -> None:
    upstream.write("big.yaml", "#" * 300_000)
    upstream.push("big")
    found = source(upstream).list()
    assert names(found) == ["web"]
    assert "256 KiB are allowed" in str(found.files[0].parsed.errors[0])


def test_a_git_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here an ssh that never answers."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 1000\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    with pytest.raises(GitFailed, match=r"took longer than 0\.5 s"):
        Git(tmp_path / "none", "ssh").run("ls-remote", "ssh://host/specs", seconds=0.5)
    deadline = time.monotonic() + 5
    while _alive(int((tmp_path / "pid").read_text())):
        assert time.monotonic() < deadline, "the ssh outlived its git"


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def test_a_source_that_is_stopped_ends_its_fetch_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nsleep 1000\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    address = parse("git+ssh://host/specs")
    one = GitSource(address, tmp_path / "state", lambda: None, interval=60, signers=None, clock=time.time)
    one.start()
    deadline = time.monotonic() + 20
    while not (tmp_path / "called").exists():
        assert time.monotonic() < deadline
    begun = time.monotonic()
    one.stop()
    assert time.monotonic() - begun < 5


def test_what_git_writes_is_bounded(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack beyond the bound is no commit that is taken."""
    monkeypatch.setattr("reconciler.spec.sources.git.command.MAX_FILE", 64 * 1024)
    (upstream.tree / "blob.bin").write_bytes(os.urandom(200_000))
    upstream.push("big")
    found = source(upstream).list()
    assert (found.state, found.files) == (ListingState.UNKNOWN, ())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("fatal: bad object\n", "fatal: bad object"),
        (
            "Host key verification failed.\nfatal: Could not read from remote repository.\n\nPlease make sure you have "
            "the correct access rights\nand the repository exists.\n",
            "Host key verification failed.; fatal: Could not read from remote repository.",
        ),
        ("warning: redirecting\nfatal: no\n", "fatal: no"),
        ("something else\nat the end\n", "at the end"),
        ("", ""),
    ],
)
def test_what_git_says_is_told_with_what_its_transport_said_before(said: str, told: str) -> None:
    assert telling(said) == told
