"""The text of the metrics, read by Prometheus's own parser; and where they may be served."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler.agent.metrics import exposition
from reconciler.agent.scraping import address
from reconciler.errors import ReconcilerError
from reconciler.loop.figures import Figures
from reconciler.loop.values import Action, Op, Trouble
from reconciler.loop.workers import Superseded
from reconciler.states import ChangeClass, Reason

Found = dict[tuple[str, frozenset[tuple[str, str]]], float]
PRESENT = dict.fromkeys(("planned", "held", "waiting", "busy", "unknown", "drifted", "source_known"), 1)


def parsed(text: str) -> Found:
    found: Found = {}
    for family in text_string_to_metric_families(text):
        assert family.type in ("counter", "gauge") and family.documentation
        for sample in family.samples:
            assert sample.name.endswith("_total") is (family.type == "counter")
            key = sample.name.removeprefix("reconciler_"), frozenset(sample.labels.items())
            assert key not in found, "once"
            found[key] = sample.value
    return found


def of(name: str, parent: str = "", **more: str) -> frozenset[tuple[str, str]]:
    return frozenset({"container": name, "parent": parent, **more}.items())


def test_figures_become_samples_with_the_container_and_its_part_as_labels() -> None:
    usages = {
        "shop": {"cpu_seconds": 1.5, "memory_limit_bytes": None, "interface.eth0.1.received_bytes": 7},
        "shop.web": {"cpu_seconds": 0.5, "pressure.io.full_seconds": 2.0, "pressure.io.full_avg10": 9.0, "strays": 0}
        | {"io.254:0.read_bytes": 4096, "io_read_bytes": 4096, "io.254:0.read_bps_limit": None},
    }
    found = parsed(exposition(usages, [], None))
    assert found == {
        ("agent_up", frozenset({("version", "0.1.0")})): 0,
        ("container_cpu_seconds_total", of("shop")): 1.5,
        ("container_cpu_seconds_total", of("shop.web", "shop")): 0.5,
        ("container_network_received_bytes_total", of("shop", interface="eth0.1")): 7,
        ("container_io_read_bytes_total", of("shop.web", "shop", device="254:0")): 4096,
        ("container_pressure_full_seconds_total", of("shop.web", "shop", resource="io")): 2,
    }


def test_rows_and_the_loop_have_samples_and_odd_labels_are_escaped() -> None:
    figures = Figures()
    figures.passed(0.25, 100.0, sound=True)
    figures.passed(0.5, 200.0, sound=False)
    action = Action(Op.CREATE, "job", "new", ChangeClass.CREATE)
    endings = (None, None, Superseded.SUPERSEDED, Trouble("create:x", 1, "no", Reason.LAUNCH_FAILED, 1, 0))
    for ending in endings:
        figures.acted(action, ending)
    odd = 'a "b" \\ c\nd'
    row: Any = {"name": "job", "type": odd, "status": "Running", "ready": True, "restarts": 3}
    found = parsed(exposition({}, [row], figures.as_json(PRESENT)))
    assert found["container_status", of("job", type=odd, status="Running")] == 1
    assert (found["container_ready", of("job")], found["container_restarts_total", of("job")]) == (1, 3)
    loop = {name: value for (name, labels), value in found.items() if not labels}
    assert loop["loop_passes_total"] == 2 and loop["loop_pass_failures_total"] == 1
    assert (loop["loop_pass_seconds_total"], loop["loop_last_pass_timestamp_seconds"]) == (0.75, 100)
    assert all(loop[f"loop_{name}"] == 1 for name in PRESENT)
    for outcome, count in (("done", 2), ("superseded", 1), ("failed", 1)):
        assert found["loop_actions_total", frozenset({"op": "create", "outcome": outcome}.items())] == count


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("127.0.0.1:9650", ("127.0.0.1", 9650)),
        ("127.8.9.1:0", ("127.8.9.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:9650", ("127.0.0.1", 9650)),
    ],
)
def test_a_loopback_address_will_do(given: str, where: tuple[str, int]) -> None:
    assert address(given) == where


@pytest.mark.parametrize(
    "given", ["0.0.0.0:9650", "[::]:9650", "10.0.0.1:9650", ":9650", "9650", "host:1", "127.0.0.1:x"]
)
def test_any_other_is_refused(given: str) -> None:
    with pytest.raises(ReconcilerError, match=r"^--metrics"):
        address(given)
