"""The scalar types of the spec's fields, and the base of its models.

Invariant: nothing is coerced. `"yes"` is no boolean, `8080` no string. A number where a unit is
needed is refused in a written file (validation context `WRITTEN`), while Python code and stored
records, which hold bytes and seconds already, may pass numbers.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from reconciler.spec import quantities
from reconciler.spec.quantities import BadQuantity

WRITTEN: Mapping[str, bool] = {"written": True}
"""The validation context for what a person wrote: quantities need their units."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*")
_USER = re.compile(r"[a-z_][-a-z0-9_.]{0,31}\$?|[0-9]{1,10}(:[0-9]{1,10})?", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODE = re.compile(r"[0-7]{3,4}")
_CPUSET = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")
_REALTIME_SIGNAL = re.compile(r"SIGRTMIN(\+([0-9]|[12][0-9]|30))?")


class Part(BaseModel):
    """Base of every model of the spec: frozen, camelCase outside, snake_case inside, no extras."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        alias_generator=to_camel,
        allow_inf_nan=False,
    )


def refuse(message: str, hint: str = "") -> PydanticCustomError:
    """An error whose text is for the writer of the spec; `hint` is shown in brackets."""
    return PydanticCustomError("refused", "{message}", {"message": message, "hint": hint})


def _quantity(parse: Callable[[str], float], bare: Callable[[object], BadQuantity]) -> Callable[..., Any]:
    def read(value: Any, info: ValidationInfo) -> Any:
        try:
            if isinstance(value, str):
                return parse(value)
            if isinstance(value, int | float) and not isinstance(value, bool) and info.context is not None:
                raise bare(value)
        except BadQuantity as bad:
            raise refuse(bad.message, bad.hint) from None
        return value

    return read


def _cpus(value: Any) -> Any:
    try:
        if isinstance(value, str):
            raise quantities.cpus_written_as_text(value)
        return quantities.check_cpus(value) if isinstance(value, float | int) else value
    except BadQuantity as bad:
        raise refuse(bad.message, bad.hint) from None


def _positive_size(value: int) -> int:
    if not 0 < value <= quantities.LARGEST_SIZE:
        raise refuse("a size must be above 0")
    return value


def _not_negative(value: float) -> float:
    if value < 0:
        raise refuse("a duration cannot be negative")
    return value


def _positive(value: int) -> int:
    if value <= 0:
        raise refuse("must be above 0")
    return value


def _weight(value: int) -> int:
    if not 1 <= value <= 10_000:
        raise refuse("a weight is from 1 to 10000", "100 is what others have")
    return value


def _matching(pattern: re.Pattern[str], message: str, hint: str = "", longest: int = 4096) -> Callable[[str], str]:
    def check(value: str) -> str:
        if len(value) > longest or pattern.fullmatch(value) is None:
            raise refuse(message, hint)
        return value

    return check


def _label(value: str) -> str:
    if _LABEL.fullmatch(value):
        return value
    guess = re.sub(r"[^-a-z0-9]+", "-", value.lower())[:63].strip("-")
    raise refuse(
        f'"{value[:80]}" is not a name: up to 63 of a-z, 0-9 and "-", with a letter or digit at both ends',
        f'did you mean "{guess}"?' if guess else "",
    )


def _signal(value: str) -> str:
    if value in signal.Signals.__members__ or _REALTIME_SIGNAL.fullmatch(value):
        return value
    guess = "SIG" + value.upper().removeprefix("SIG")
    known = guess in signal.Signals.__members__
    raise refuse(f'"{value}" is not a signal', f'did you mean "{guess}"?' if known else "such as SIGTERM or SIGINT")


def _filled(value: str) -> str:
    if not value:
        raise refuse("must not be empty")
    return value


def _variable_name(value: str) -> str:
    if not value or "=" in value:
        raise refuse('is not the name of a variable: it must not be empty or contain "="')
    return value


def _argv(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0]:
        raise refuse("needs at least the program's name", "leave it out for a container that only holds namespaces")
    return value


def _no_dotdot(value: str) -> str:
    if not value or ".." in value.split("/"):
        raise refuse('must be a path without ".."')
    return value


Text = Annotated[StrictStr, AfterValidator(_filled)]
Flag = StrictBool
Count = Annotated[StrictInt, AfterValidator(_positive)]
Weight = Annotated[StrictInt, AfterValidator(_weight)]
Number = StrictFloat
Size = Annotated[
    StrictInt,
    AfterValidator(_positive_size),
    BeforeValidator(_quantity(quantities.parse_size, quantities.bare_size)),
    WithJsonSchema({"type": "string", "pattern": quantities.SIZE_PATTERN, "examples": ["64Mi", "1Gi"]}),
]
Duration = Annotated[
    StrictFloat,
    AfterValidator(_not_negative),
    BeforeValidator(_quantity(quantities.parse_duration, quantities.bare_duration)),
    WithJsonSchema({"type": "string", "pattern": quantities.DURATION_PATTERN, "examples": ["500ms", "1m30s"]}),
]
Cpus = Annotated[StrictFloat, BeforeValidator(_cpus), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
Label = Annotated[
    StrictStr,
    AfterValidator(_label),
    WithJsonSchema({"type": "string", "pattern": f"^{_LABEL.pattern}$", "maxLength": 63}),
]
Signal = Annotated[StrictStr, AfterValidator(_signal)]
Hostname = Annotated[StrictStr, AfterValidator(_matching(_HOSTNAME, "is not a host name", longest=64))]
User = Annotated[StrictStr, AfterValidator(_matching(_USER, 'must be a user\'s name or "uid" or "uid:gid"'))]
Sha256 = Annotated[StrictStr, AfterValidator(_matching(_SHA256, "must be 64 lower-case hexadecimal digits"))]
Mode = Annotated[
    StrictStr, AfterValidator(_matching(_MODE, "must be a mode of three or four octal digits", 'such as "0755"'))
]
CpuSet = Annotated[StrictStr, AfterValidator(_matching(_CPUSET, "must be a list of CPUs", 'such as "0-3,7"'))]
InnerPath = Annotated[StrictStr, AfterValidator(_no_dotdot)]
VariableName = Annotated[StrictStr, AfterValidator(_variable_name)]
Argv = Annotated[tuple[StrictStr, ...], AfterValidator(_argv)]
