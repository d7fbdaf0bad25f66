"""What becomes of a spec on this host, as far as can be said before a launch: what is refused of it, what lacks."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

from reconciler.runtime.fetcher import schemes
from reconciler.runtime.isolators.isolator import Isolator
from reconciler.runtime.launcher.launcher import Launcher
from reconciler.runtime.mesos import fit, launch_plan, needs
from reconciler.runtime.provisioner import accounts, rootfs

if TYPE_CHECKING:
    from reconciler.spec.model import ContainerSpec


def refusals(
    spec: ContainerSpec, launcher: Launcher, isolators: Sequence[Isolator], left_out: Set[str], backend: str | None
) -> list[str]:
    """What it asks for and can never be given, a sentence each. left_out: see `needs`; backend: see `fit.images`."""
    return [
        *fit.refusals(spec, launcher.name, launcher.gives, limits=launcher.limits),
        *fit.images(spec, backend),
        *needs.refusals(spec, isolators, left_out),
        *schemes.refusals(spec),
    ]


def foresee(spec: ContainerSpec, isolators: Sequence[Isolator]) -> None:
    """Raises Terminal, Retryable or OSError for what a launch would find, as far as the spec tells. Blocks."""
    if spec.rootfs is not None:
        accounts.account(rootfs.locate(spec.name, spec.rootfs), spec.user)
    elif spec.image is None and spec.class_ != "debug":
        launch_plan.Account(spec.user)
    for isolator in isolators:
        isolator.foresee(spec)
