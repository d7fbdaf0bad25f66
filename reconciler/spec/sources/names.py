"""What a spec file is called, and how a name that is not fit for output is shown. One wording for every source."""

from __future__ import annotations

SUFFIXES = (".yaml", ".yml", ".json")


def no_suffix() -> str:
    return f"its name does not end in {', '.join(SUFFIXES)}"


def shown(path: str) -> str:
    """Fit for any output, also where the name is not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()
