"""Where things are, by default and as told."""

from __future__ import annotations

from pathlib import Path

from reconciler.agent.paths import Places, absolute, places, sandbox_of


def test_root_has_the_directories_of_the_system() -> None:
    found = places(None, None, {}, privileged=True)
    assert found == Places(Path("/var/lib/reconciler"), Path("/run/reconciler"))


def test_a_user_has_directories_below_the_xdg_ones() -> None:
    found = places(None, None, {"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"}, privileged=False)
    assert found == Places(Path("/s/reconciler"), Path("/r/reconciler"))


def test_without_a_runtime_directory_of_the_session_it_lies_in_the_root() -> None:
    found = places("/mine", None, {}, privileged=False)
    assert found.runtime_dir == Path("/mine/run")


def test_flags_win_over_the_environment() -> None:
    environ = {"RECONCILER_ROOT": "/e", "RECONCILER_RUNTIME_DIR": "/er"}
    assert places("/f", "/fr", environ, privileged=True) == Places(Path("/f"), Path("/fr"))
    assert places(None, None, environ, privileged=True) == Places(Path("/e"), Path("/er"))


def test_a_path_is_made_absolute_as_given(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert absolute(f"{tmp_path}/x/../link") == tmp_path / "link"


def test_a_nested_sandbox_lies_inside_its_parents() -> None:
    where = sandbox_of(Places(Path("/s"), Path("/r")), "a.b.c")
    assert where == Path("/s/containers/a/sandbox/containers/b/containers/c")
