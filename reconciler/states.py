"""The closed vocabularies that users see: what a container is doing, and why.

Lowest layer: imported by every room, imports nothing of ours. The strings are public
(`ps -o json`, scripts, the status files), so a member is never renamed, only added.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The one word `ps` shows for a name."""

    PENDING = "Pending"
    PULLING = "Pulling"
    STARTING = "Starting"
    RUNNING = "Running"
    UNHEALTHY = "Unhealthy"
    CRASH_LOOP = "CrashLoop"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    HELD = "Held"
    SUSPENDED = "Suspended"
    BLOCKED = "Blocked"
    CONFLICT = "Conflict"
    INVALID = "Invalid"
    STALLED = "Stalled"
    IGNORED = "Ignored"


class ContainerState(StrEnum):
    """Where a container is in its containerizer, after Mesos (docs/containerizer-internals).

    mesos:  PROVISIONING > PREPARING > ISOLATING > FETCHING > RUNNING > DESTROYING
    docker: FETCHING > PULLING > RUNNING > DESTROYING
    """

    PROVISIONING = "PROVISIONING"
    PREPARING = "PREPARING"
    ISOLATING = "ISOLATING"
    FETCHING = "FETCHING"
    PULLING = "PULLING"
    RUNNING = "RUNNING"
    DESTROYING = "DESTROYING"


class Reason(StrEnum):
    """Why a run ended, or why a name does not run."""

    # how a run ended
    EXITED = "Exited"
    SIGNALED = "Signaled"
    OUT_OF_MEMORY = "OutOfMemory"
    LAUNCH_FAILED = "LaunchFailed"
    EXIT_STATUS_LOST = "ExitStatusLost"
    PARENT_ENDED = "ParentEnded"
    DESTROYED = "Destroyed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    UNHEALTHY = "Unhealthy"
    DISK_LIMIT_EXCEEDED = "DiskLimitExceeded"
    PORT_NOT_GIVEN = "PortNotGiven"
    MOUNT_LOST = "MountLost"
    CGROUP_LOST = "CgroupLost"
    NETWORK_LOST = "NetworkLost"
    LIMIT_EXCEEDED = "LimitExceeded"
    TASK_FAILED = "TaskFailed"
    EXECUTOR_TERMINATED = "ExecutorTerminated"
    EXECUTOR_REGISTRATION_TIMEOUT = "ExecutorRegistrationTimeout"
    EXECUTOR_REREGISTRATION_TIMEOUT = "ExecutorReregistrationTimeout"
    # why a name is not run
    NOT_SUPPORTED = "NotSupported"
    NOT_ON_THIS_LAUNCHER = "NotOnThisLauncher"
    NO_CONTAINERIZER = "NoContainerizer"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    FETCH_FAILED = "FetchFailed"
    HOOK_VETOED = "HookVetoed"
    HOOK_FAILED = "HookFailed"
    INVALID_SPEC = "InvalidSpec"
    DUPLICATE_NAME = "DuplicateName"
    OTHER_SOURCE = "OtherSource"
    PORT_TAKEN = "PortTaken"
    FILE_UNREADABLE = "FileUnreadable"
    MASS_DELETION = "MassDeletion"
    SOURCE_UNKNOWN = "SourceUnknown"
    STATE_UNKNOWN = "StateUnknown"
    RECORD_UNREADABLE = "RecordUnreadable"
    PARENT_NOT_RUNNING = "ParentNotRunning"
    BACKING_OFF = "BackingOff"
    RESTART_LIMIT = "RestartLimit"
    DESTROY_FAILED = "DestroyFailed"
    SUSPENDED = "Suspended"
    DEPENDENCY_NOT_MET = "DependencyNotMet"
    NODE_SELECTOR = "NodeSelector"
    PRUNE_UNCONFIRMED = "PruneUnconfirmed"
    NO_EFFECT = "NoEffect"


class ChangeClass(StrEnum):
    """What carrying an action out does to the container; printed by `plan`."""

    LIVE = "live"
    RESTART = "restart"
    CREATE = "create"
    DESTROY = "destroy"
    ADOPT = "adopt"


class EventType(StrEnum):
    """What an event tells; `events` prints it. See `loop/events`."""

    ACTING = "Acting"
    APPLIED = "Applied"
    STARTED = "Started"
    ENDED = "Ended"
    STATUS = "Status"
    READY = "Ready"
    NOT_READY = "NotReady"
    LIMITATION = "Limitation"
    LIMITATION_OVER = "LimitationOver"
    DESTROYED = "Destroyed"
    ROLLED_BACK = "RolledBack"
    ROLLBACK_ENDED = "RollbackEnded"
    # of the agent, about no container
    AGENT_STARTED = "AgentStarted"
    AGENT_STOPPED = "AgentStopped"
    SOURCE_UNKNOWN = "SourceUnknown"
    SOURCE_KNOWN = "SourceKnown"
    IMAGES_REMOVED = "ImagesRemoved"
