"""Every file of tests/fixtures/specs says in its first lines what the loader makes of it:

# expect: ok                      or one line per error, "LINE:COLUMN: field: message (hint)"
# containers: shop shop.web       one line per valid document
"""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.spec.loader import load_bytes

FIXTURES = sorted((Path(__file__).parents[2] / "fixtures" / "specs").glob("*.yaml"))


def remarks(text: str, kind: str) -> list[str]:
    prefix = f"# {kind}: "
    return [line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_file_is_read_as_its_first_lines_say(path: Path) -> None:
    text = path.read_text()
    parsed = load_bytes(text.encode(), "f.yaml")
    errors = [str(error).removeprefix("f.yaml:") for error in parsed.errors] or ["ok"]
    assert errors == remarks(text, "expect")
    names = [" ".join(spec.name for spec in document.containers) for document in parsed.documents]
    assert names == remarks(text, "containers")


def test_there_are_fixtures() -> None:
    assert len(FIXTURES) > 40
