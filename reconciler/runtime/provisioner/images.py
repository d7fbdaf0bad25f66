"""Provides images: what is not there yet is read or pulled, and unpacked, once, in a thread of its own, for all.

    provide ─▶ there already, by pullPolicy? ─▶ describe ▸ each layer that is missing: unpack, verify, keep ▸ write down
    lay out ─▶ the container's own upper directory, or its copy

Invariants: one pull of an image at a time; nobody who waits blocks the loop, and when the last one leaves, the pull
gives up at its next step and leaves nothing half-done. Layers that are whole stay, so that the next one goes on there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Retryable, Terminal
from reconciler.runtime.isolators import filesystem_rootfs
from reconciler.runtime.network import etc
from reconciler.runtime.provisioner import archives, layers, references, registry, settings, unpacking
from reconciler.runtime.provisioner.archives import Described, Source
from reconciler.runtime.provisioner.layers import Bound, Overlay
from reconciler.runtime.provisioner.manifests import BadImage
from reconciler.runtime.provisioner.references import Local
from reconciler.runtime.provisioner.registry import Access
from reconciler.runtime.provisioner.store import ROOT, Image, Store
from reconciler.runtime.threads import in_thread, telling
from reconciler.states import Reason

if TYPE_CHECKING:
    from reconciler.runtime.containerizer import ContainerConfig
    from reconciler.spec.attachments import Image as Wanted

SECONDS = 1800.0
DIRECTORY = "images"  # of ROOT
_AT_A_TIME = 4
_OWN = "own"  # in a container's place: its image's volumes
_FILES = tuple(f"/etc/{file}" for file in etc.FILES)

Say = Callable[[str], None]


class _GivenUp(Exception):
    """Nobody waits for it any more."""


@dataclass
class _Pull:
    """One under way. told: who is told what it does."""

    task: asyncio.Task[Image]
    stop: threading.Event
    told: list[Say] = field(default_factory=list)
    said: str = ""

    def say(self, what: str) -> None:
        self.said = what
        for each in self.told:
            each(what)


class Images:
    def __init__(self, root: Path, access: Access, backend: str | None = None) -> None:
        """backend: overlay, copy or bind; None: overlay, and where there can be none, copy."""
        self._access = access
        self.backend = backend
        self.store = Store(root / DIRECTORY)
        self._pulls: dict[str, _Pull] = {}
        self._slots = asyncio.Semaphore(_AT_A_TIME)
        self._no_overlay: dict[tuple[int, bool], str] = {}  # number of layers, id-mapped → why

    async def recover(self, names: Collection[str]) -> None:
        """names: of containers that there are."""
        await asyncio.to_thread(self.store.sweep, names)

    # ---- having an image

    async def provide(self, wanted: Wanted, say: Say, field: str = "spec.image.reference") -> None:
        """Raises Retryable (reason ImageUnavailable), Terminal for a reference that names none. say: the progress."""
        reference, policy = wanted.reference, wanted.pull_policy
        references.parse(reference, field)
        if policy != "Always" and await asyncio.to_thread(self.store.find, reference) is not None:
            return
        if policy == "Never":
            raise _unavailable(reference, "it is not on this host, and pullPolicy is Never")
        try:
            async with asyncio.timeout(SECONDS):
                await self._pulled(reference, say)
        except TimeoutError:
            raise _unavailable(reference, f"it was not provided within {SECONDS:.0f} s") from None

    async def _pulled(self, reference: str, say: Say) -> None:
        pull = self._pulls.get(reference) or self._begin(reference)
        pull.told.append(say)
        say(pull.said)
        try:
            await asyncio.shield(pull.task)
        finally:
            pull.told.remove(say)
            if not pull.told and not pull.task.done():
                self._give_up(reference)

    def _begin(self, reference: str) -> _Pull:
        stop = threading.Event()
        task = asyncio.create_task(self._pull(reference, stop), name=f"pull of {reference}")
        task.add_done_callback(lambda _: self._over(reference, stop))
        self._pulls[reference] = _Pull(task, stop, said=f"providing {reference}")
        return self._pulls[reference]

    def _over(self, reference: str, stop: threading.Event) -> None:
        pull = self._pulls.get(reference)
        if pull is not None and pull.stop is stop:
            del self._pulls[reference]
            pull.task.cancelled() or pull.task.exception()  # seen, should nobody have waited to the end

    def _give_up(self, reference: str) -> None:
        """The next one who asks begins anew, beside what is left of this one, which may wait long for a registry."""
        pull = self._pulls.pop(reference)
        pull.stop.set()
        pull.task.cancel()
        pull.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _pull(self, reference: str, stop: threading.Event) -> Image:
        def say(what: str) -> None:
            pull = self._pulls.get(reference)
            if pull is not None and pull.stop is stop:
                pull.say(what)

        def check() -> None:
            if stop.is_set():
                raise _GivenUp

        async with self._slots:
            tell = telling(say)
            return await in_thread(lambda: self._provide(reference, tell, check))

    def _provide(self, reference: str, say: Say, check: unpacking.Check) -> Image:
        """Blocks, for as long as it takes. Raises Retryable."""
        try:
            with self._opened(reference, say, check) as source:
                return self._kept(reference, source, say, check)
        except (BadImage, OSError) as error:
            raise _unavailable(reference, str(error)) from error
        except _GivenUp:
            raise _unavailable(reference, "nobody waits for it any more") from None

    @contextlib.contextmanager
    def _opened(self, reference: str, say: Say, check: unpacking.Check) -> Iterator[Source]:
        found = references.parse(reference)
        if isinstance(found, Local):
            with archives.opened(found) as source:
                yield source
            return
        with (
            self.store.adding() as directory,
            registry.opened(
                found, self._access, directory, lambda what: say(f"pulling {reference}: {what}"), check
            ) as source,
        ):
            yield source

    def _kept(self, reference: str, source: Source, say: Say, check: unpacking.Check) -> Image:
        check()
        described = source.describe()
        for number, layer in enumerate(described.layers, 1):
            if self.store.has(layer.diff_id):
                continue
            check()
            of_all = f"layer {number} of {len(described.layers)}"
            say(f"providing {reference}: {of_all}")
            with self.store.adding() as made, source.open(layer) as file:
                (made / "whole" / "tree").mkdir(mode=0o755, parents=True)
                unpacked = unpacking.unpack(file, layer, str(made / "whole" / "tree"), check)
                self.store.add(made / "whole", layer.diff_id, unpacked.size)
        return self._written_down(reference, described)

    def _written_down(self, reference: str, described: Described) -> Image:
        found = tuple(layer.diff_id for layer in described.layers)
        size = sum(map(self.store.size, dict.fromkeys(found)))
        image = Image(reference, described.digest, found, described.config, size, time.time())
        with self.store.adding():
            if missing := [layer for layer in found if not self.store.has(layer)]:
                raise BadImage(f"layer {missing[0]} was removed meanwhile")
            self.store.save(image)
        return image

    # ---- a container's own

    async def lay_out(self, config: ContainerConfig, *, mapped: bool) -> ContainerConfig:
        """With its root, with what its spec leaves to the image, and with its volumes' images. mapped: it is for a user
        namespace with ids that are not the host's. Raises Retryable, Terminal."""
        return await in_thread(lambda: self._lay_out(config, mapped))

    def _lay_out(self, config: ContainerConfig, mapped: bool) -> ContainerConfig:
        spec, own = config.spec, config.spec.image
        volumes = {number: each for number, each in enumerate(spec.volumes) if each.type == "image"}
        wanted = {ROOT: own.reference} if own is not None else {}
        wanted |= {str(number): volume.source or "" for number, volume in volumes.items()}
        images = {part: self._found(reference, root=part == ROOT) for part, reference in wanted.items()}
        with self.store.claimed(config.name, images) as places:
            if own is not None:
                config = self._rooted(config, images[ROOT], places[ROOT], mapped)
            laid = {
                number: self._laid(images[str(number)], places[str(number)], mapped, read_only=volume.read_only)
                for number, volume in volumes.items()
            }
            return replace(config, images=laid)

    def _rooted(self, config: ContainerConfig, image: Image, place: Path, mapped: bool) -> ContainerConfig:
        laid = self._laid(image, place, mapped)
        lowers = [laid] if isinstance(laid, Path) else list(map(Path, laid.lowers))
        own = {}
        for number, target in enumerate(settings.volumes(config.spec, image.config)):
            own[target] = place / _OWN / str(number)
            own[target].parent.mkdir(exist_ok=True)
            try:
                layers.spread(lowers, target, own[target])
            except NotADirectoryError as error:
                why = f"image {image.reference}: its volume {target} is no directory in it"
                raise Terminal(f"{config.name}: {why}", Reason.INVALID_SPEC) from error
        return replace(
            config,
            spec=settings.applied(config.spec, image.config),
            health_checks=settings.health_checks(config.spec, image.config),
            image_volumes=own,
            rootfs=laid if isinstance(laid, Path) else place,
            tree=None if isinstance(laid, Path) else laid,
        )

    def _found(self, reference: str, *, root: bool) -> Image:
        """As it is going to be laid out. root: to be somebody's, with what is mounted on there."""
        image = self.store.find(reference)
        if image is None:
            raise _unavailable(reference, "it is not on this host any more")
        if not image.layers:
            raise _unavailable(reference, "it has no layers")
        return replace(image, layers=(self._united(image, root),)) if self.backend == "bind" else image

    def _united(self, image: Image, root: bool) -> str:
        """A layer of its own that is all of its layers, made for the first who asks."""
        directories = (*filesystem_rootfs.POINTS, *settings.targets(image.config)) if root else ()
        files = _FILES if root else ()
        text = json.dumps([image.layers, directories, files])
        layer = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        if not self.store.has(layer):
            with self.store.adding() as made:
                (made / "whole").mkdir()
                layers.united(self._lowers(image), made / "whole" / "tree", directories, files)
                self.store.add(made / "whole", layer, image.size)
        return layer

    def _lowers(self, image: Image) -> list[Path]:
        # a file system takes no directory twice, and a layer is one by its content
        return [self.store.tree(layer) for layer in dict.fromkeys(reversed(image.layers))]

    def _laid(self, image: Image, place: Path, mapped: bool, *, read_only: bool = False) -> Overlay | Bound | Path:
        """Its layers as one tree, with what is written to it, if anything is, in `place`."""
        lowers = self._lowers(image)
        if self.backend == "bind":
            return Bound(str(lowers[0]))
        why = "as asked for" if self.backend == "copy" else self.why_copy(len(lowers) + read_only, mapped)
        if why and self.backend == "overlay":
            other = "leave --image-provisioner-backend out for a copy"
            raise _unavailable(image.reference, f"no overlay of its layers can be mounted here: {why}; {other}")
        if why:
            layers.copied(lowers, place / "root")
            return place / "root"
        return layers.shown(lowers, place) if read_only else layers.overlaid(lowers, place)

    def why_copy(self, count: int, mapped: bool) -> str:
        """Why there can be no overlay of so many layers here; "" when there can."""
        if (count, mapped) not in self._no_overlay:
            why = layers.why_no_mapped_overlay if mapped else layers.why_no_overlay
            with self.store.adding() as made:
                self._no_overlay[count, mapped] = why(made, count)
        return self._no_overlay[count, mapped]

    def close(self) -> None:
        """What is under way gives up."""
        for reference in list(self._pulls):
            self._give_up(reference)


def _unavailable(reference: str, why: str) -> Retryable:
    return Retryable(f"image {reference}: {why}", Reason.IMAGE_UNAVAILABLE)
