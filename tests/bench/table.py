"""How figures are put: a row per series, its best, median and 95th percentile, and ratios against goals."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from pathlib import Path

WIDTH = 46


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    values: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        ordered = sorted(self.values)
        return ordered[round(0.95 * (len(ordered) - 1))]


def heading(title: str, *columns: str) -> None:
    print(f"\n{title:<{WIDTH}}" + "".join(f"{column:>12}" for column in columns), flush=True)


def row(name: str, *cells: str) -> None:
    print(f"  {name:<{WIDTH - 2}}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def show(each: Series, base: Series | None = None) -> None:
    """base: what this one is put in proportion to."""
    ratio = f"{each.median / base.median:.2f} x" if base is not None else ""
    row(each.name, str(len(each.values)), *(f"{figure:.2f}" for figure in (each.best, each.median, each.p95)), ratio)


def goal(what: str, ratio: float, at_most: float) -> None:
    verdict = "met" if ratio <= at_most else "missed"
    print(f"  goal: {what} at most {at_most:g} x: {ratio:.2f} x, {verdict}", flush=True)


def goal_of_more(what: str, milliseconds: float, at_most: float) -> None:
    verdict = "met" if milliseconds <= at_most else "missed"
    print(f"  goal: {what} at most {at_most:g} ms more: {milliseconds:+.2f} ms, {verdict}", flush=True)


def note(text: str) -> None:
    print(f"  note: {text}", flush=True)


def machine() -> str:
    load = " ".join(f"{each:.2f}" for each in os.getloadavg())
    running = Path("/proc/loadavg").read_text().split()[3]
    uname = os.uname()
    return f"{uname.sysname} {uname.release}, {os.cpu_count()} CPUs, load {load}, tasks running/all {running}"
