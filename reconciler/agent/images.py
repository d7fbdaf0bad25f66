"""The images of native containers, as people ask for them, with an agent and without."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain

from reconciler.agent.paths import Places
from reconciler.agent.store import Store as Records
from reconciler.errors import ReconcilerError
from reconciler.runtime.provisioner.images import DIRECTORY
from reconciler.runtime.provisioner.store import Image, Pruned, Store


@dataclass(frozen=True, slots=True)
class Listed:
    """used_by: names of containers, recorded for it or still running on it."""

    image: Image
    used_by: tuple[str, ...]


def listing(places: Places) -> list[Listed]:
    """Those there are, and those that containers still run on while their names mean newer ones."""
    store = Store(places.root / DIRECTORY)
    found = {(image.reference, image.digest): image for image in store.listing()}
    running = store.used()
    found |= {(image.reference, image.digest): image for images in running.values() for image in images}
    users: dict[tuple[str, str], set[str]] = {key: set() for key in found}
    for name, images in running.items():
        for image in images:
            users[image.reference, image.digest].add(name)
    for name, references in _recorded(places).items():
        for reference in references if name not in running else ():
            if (known := store.find(reference)) is not None:
                users[reference, known.digest].add(name)
    return [Listed(found[key], tuple(sorted(users[key]))) for key in sorted(found)]


def prune(places: Places, more: Collection[str] = ()) -> Pruned:
    """more: references to keep besides. Raises ReconcilerError while that would be unsafe: an image is being provided,
    or a record cannot be read."""
    unreadable = Records(places).load().unreadable
    if unreadable:
        raise ReconcilerError(f"nothing was removed: {next(iter(unreadable.values()))}")
    return Store(places.root / DIRECTORY).prune([*more, *chain.from_iterable(_recorded(places).values())])


def _recorded(places: Places) -> Mapping[str, tuple[str, ...]]:
    """Container → references of its images."""
    records = Records(places).load().records
    specs = {name: record.spec for name, record in records.items()}
    return {
        name: tuple(image.reference for _, image in spec.images)
        for name, spec in specs.items()
        if spec.images and spec.type == "mesos"
    }
