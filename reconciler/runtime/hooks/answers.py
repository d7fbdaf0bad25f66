"""What a hook may answer before a launch: pure, and standard library only.

nothing │ {} │ {"env": {NAME: VALUE}} │ {"veto": WHY}
"""

from __future__ import annotations

import json
from collections.abc import Mapping

GROUP = "reconciler.hooks"
"""Of entry points that are hooks."""
MOST = 1 << 16
"""Bytes that an answer may have."""
_FIELDS = {"env", "veto"}


class Veto(Exception):
    """It shall not start; in the hook's words."""


class Unusable(Exception):
    """What is wrong with the answer, as the rest of a sentence."""


def variables(answer: bytes) -> Mapping[str, str]:
    """What it adds. Raises Veto or Unusable."""
    if not answer.strip():
        return {}
    try:
        found = json.loads(answer)
    except ValueError as error:
        raise Unusable(f"its answer is no JSON: {error}") from None
    if not isinstance(found, dict) or not found.keys() <= _FIELDS:
        raise Unusable('its answer is no object with "env" or "veto"')
    veto, env = found.get("veto"), found.get("env", {})
    if not isinstance(veto, str | None) or veto == "":
        raise Unusable('"veto" must be text that says why')
    if veto is not None:
        raise Veto(veto)
    if not isinstance(env, dict) or not all(_is_variable(name, value) for name, value in env.items()):
        raise Unusable('"env" must have texts by the names of variables')
    return env


def _is_variable(name: str, value: object) -> bool:
    return isinstance(value, str) and bool(name) and "=" not in name and "\0" not in name + value
