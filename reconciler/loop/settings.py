"""The loop's numbers: how often it looks, how much it does at once, how long it waits for others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.loop import fuse
from reconciler.loop.operations import Limits
from reconciler.runtime.hooks.hooks import Hooks


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds, but for `concurrency`, launches at a time, and `threads`, blocking calls at a time.

    resync            a full look at least this often, whatever events say
    slot_lease        a launch that takes longer no longer counts towards `concurrency`
    observe_patience  a containerizer that answers nothing for so long makes one name unknown
    observe_limit     an unanswered probe is given up after this time, and asked again
    list_patience     a listing that takes longer makes the source unknown until it is there
    close_grace       workers have this long to come to an end when the loop does
    ready_patience    a name that is being started counts as tried after this time
    node_labels       of this node, for nodeSelector
    restarts_per_hour of one name, after failures; 0 for no bound
    hooks             are asked before a start, and told of a removal
    """

    resync: float = 2.0
    concurrency: int = 16
    threads: int = 64
    slot_lease: float = 2.0
    observe_patience: float = 0.5
    observe_limit: float = 30.0
    list_patience: float = 5.0
    recover: float = 120.0
    close_grace: float = 5.0
    ready_patience: float = 5.0
    limits: Limits = field(default_factory=Limits)
    node_labels: Mapping[str, str] = field(default_factory=dict)
    restarts_per_hour: int = fuse.DEFAULT
    hooks: Hooks = field(default_factory=Hooks)
