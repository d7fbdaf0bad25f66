"""What is wrong with a spec file, said so that the writer can put it right without asking.

Invariant: every error has a place. `name` is the document's name where it could still be read, so
that its last good version can go on running.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class SpecError:
    """line and column count from 1. field: the path as written, "" for the document as a whole."""

    file: str
    line: int
    column: int
    field: str
    message: str
    hint: str = ""
    name: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        subject = f"{self.field}: " if self.field else ""
        hint = f" ({self.hint})" if self.hint else ""
        return where + subject + self.message + hint

    def in_file(self, file: str) -> SpecError:
        """The same error of another file with the same content."""
        return replace(self, file=file)
