"""What every source of specs does, wherever its files lie."""

from __future__ import annotations

from typing import Protocol

from reconciler.spec.sources.listing import Listing


class Source(Protocol):
    """A place that specs come from. Not called on the event loop; `list` once at a time, the others beside it."""

    @property
    def identity(self) -> str:
        """Whose names are whose: names recorded from it are pruned by it alone."""
        ...

    @property
    def note(self) -> str:
        """What keeps changes from being noticed at once; "" when nothing does."""
        ...

    def start(self) -> None:
        """Begin to give hints that another listing is worth it; from threads of its own."""
        ...

    def stop(self) -> None:
        """No hint is given once this has returned, and nothing that was begun goes on."""
        ...

    def refresh(self) -> str:
        """Have the next listing be of what is so now. Why it will not be, "" when it will."""
        ...

    def list(self) -> Listing:
        """What is known now, soon: whatever may take long was done by `start` or `refresh`."""
        ...
