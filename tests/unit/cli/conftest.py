"""The command run in this process, on a private pair of directories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.agent.paths import Places
from reconciler.cli.main import main


@dataclass(frozen=True)
class Said:
    code: int | str | None
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "root", tmp_path / "run")


@pytest.fixture
def reconciler(places: Places, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("RECONCILER_ROOT", str(places.root))
    monkeypatch.setenv("RECONCILER_RUNTIME_DIR", str(places.runtime_dir))
    monkeypatch.delenv("RECONCILER_CONFIG", raising=False)

    def run(*words: str) -> Said:
        code: int | str | None
        try:
            code = main(words)
        except SystemExit as exit:
            code = exit.code
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run
