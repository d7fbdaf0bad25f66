"""How a container lives: how it is stopped, started again, checked, ordered and logged.

Invariant: nothing here needs a restart to change except `logging`; the loop reads it anew at every
decision. Durations are seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictInt, StrictStr, model_validator

from reconciler.spec.kinds import Count, Duration, Label, Number, Part, Signal, Size, Text, refuse

Port = Annotated[StrictInt, Field(ge=1, le=65535)]


class KillPolicy(Part):
    """How a container is asked to end before it is made to."""

    signal: Signal = Field("SIGTERM", description="The signal that asks the container to end.")
    grace_period: Duration = Field(3.0, description="Time between that signal and SIGKILL.")


def _factor(value: float) -> float:
    if value < 1:
        raise refuse("must be 1 or more")
    return value


class Backoff(Part):
    """How long to wait before a failed container is started again."""

    initial: Duration = Field(1.0, description="The wait after the first failure.")
    factor: Annotated[Number, AfterValidator(_factor)] = Field(
        2.0, description="Each further wait is this many times the one before."
    )
    max: Duration = Field(60.0, description="No wait is longer than this.")
    reset_after: Duration = Field(300.0, description="Running this long forgets earlier failures.")
    max_retries: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None, description="Give up after so many failures in a row; never when not given."
    )


def _request_path(value: str) -> str:
    if not value.startswith("/") or not value.isascii() or not value.isprintable() or " " in value:
        raise refuse('must begin with "/" and be as it stands in a request: no spaces, the rest percent-encoded')
    return value


class HttpProbe(Part):
    """Healthy when a GET answers with a status from 200 to 399."""

    port: Port = Field(description="TCP port in the container's network.")
    path: Annotated[Text, AfterValidator(_request_path)] = Field("/", description="Path of the request.")
    scheme: Literal["http", "https"] = Field("http", description="http or https.")


class TcpProbe(Part):
    """Healthy when a connection is accepted."""

    port: Port = Field(description="TCP port in the container's network.")


class HealthCheck(Part):
    """One check: exactly one of http, tcp and command."""

    name: Label | None = Field(None, description="Name of the check, shown by status.")
    role: Literal["liveness", "readiness", "startup"] = Field(
        "liveness", description="liveness restarts, readiness withholds ready, startup holds the others back."
    )
    http: HttpProbe | None = Field(None, description="Healthy when a GET succeeds.")
    tcp: TcpProbe | None = Field(None, description="Healthy when a connection is accepted.")
    command: Annotated[tuple[StrictStr, ...], Field(min_length=1)] | None = Field(
        None, description="Healthy when this command, run in the container, exits with 0."
    )
    delay: Duration = Field(15.0, description="Time after the start before the first check.")
    interval: Duration = Field(10.0, description="Time between checks.")
    timeout: Duration = Field(20.0, description="A check that takes longer has failed.")
    consecutive_failures: Count = Field(3, description="Failures in a row that count as unhealthy.")
    grace_period: Duration = Field(10.0, description="Failures this soon after the start do not count.")

    @model_validator(mode="after")
    def _one_probe(self) -> HealthCheck:
        if sum(probe is not None for probe in (self.http, self.tcp, self.command)) != 1:
            raise refuse("needs exactly one of http, tcp and command")
        return self

    @property
    def what(self) -> str:
        """What it does, in few words: "http GET :8080/", "tcp :5432", "command pg_isready"."""
        if self.http is not None:
            return f"{self.http.scheme} GET :{self.http.port}{self.http.path}"
        return f"tcp :{self.tcp.port}" if self.tcp is not None else f"command {(self.command or ('',))[0]}"


class Dependency(Part):
    """Another container that must be so far before this one starts."""

    container: Text = Field(
        description='A sibling, else one beside an enclosing container, else the full name of any: "db", "shop.db".'
    )
    condition: Literal["Started", "Ready", "Completed"] = Field(
        "Started", description="How far the other container must be."
    )


class Logging(Part):
    """How much of a container's output is kept."""

    max_size: Size = Field(10 * 2**20, description="A log file is rotated at this size.")
    max_files: Count = Field(3, description="Rotated files kept, the current one included.")
