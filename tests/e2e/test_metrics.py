"""The metrics as Prometheus sees them: over HTTP while an agent runs, by the command without one."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.checks import eventually, state
from tests.e2e.world import World, document, sleeper


def parsed(text: str) -> dict[tuple[str, str], float]:
    """(name, container or what else its first label says) → value."""
    return {
        (sample.name.removeprefix("reconciler_"), next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_containers_and_the_loop_are_in_the_metrics(world: World) -> None:
    world.write("crash.yaml", document("crash", shell="exit 3", backoff={"initial": "1h", "max": "1h"}))
    world.write("shop.yaml", sleeper("shop", containers=[{"name": "web", "command": ["sleep", "infinity"]}]))
    with world.agent("--metrics", "127.0.0.1:0") as agent:
        state(world, "shop.web", "Running")
        (url,) = re.findall(r"metrics at (\S+)", agent.log())

        def scrape() -> dict[tuple[str, str], float]:
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                return parsed(answer.read().decode())

        eventually(lambda: scrape().get(("loop_actions_total", "create")) == 3, "each was made")
        eventually(lambda: scrape()["loop_planned", ""] == 0, "it has converged")
        found = scrape()
        assert found["loop_passes_total", ""] > 0 and found["loop_pass_failures_total", ""] == 0
        assert found["loop_source_known", ""] == 1
        assert (found["container_ready", "shop.web"], found["container_ready", "crash"]) == (1, 0)
        for name in ("shop", "shop.web"):
            assert found["container_cpu_seconds_total", name] >= 0 and found["container_memory_bytes", name] > 0
        assert found["container_pids", "shop"] == 2 * found["container_pids", "shop.web"] > 0
        assert ("container_memory_bytes", "crash") not in found
        memory = [Path(at, "memory.current") for at in world.rows()["shop"]["cgroups"].values()]
        own = [int(file.read_text()) for file in memory if file.exists()]
        assert not own or found["container_memory_bytes", "shop"] == pytest.approx(own[0], abs=1 << 20)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url + "/x", timeout=30)
        assert parsed(world.succeed("metrics"))["agent_up", "0.1.0"] == 1
    after = parsed(world.succeed("metrics"))
    assert after["agent_up", "0.1.0"] == 0 and ("loop_passes_total", "") not in after
    assert after["container_pids", "shop"] == found["container_pids", "shop"]
    refused = world.reconciler("run", world.specs, "--metrics", "0.0.0.0:9650")
    assert refused.returncode == 1 and "on this machine alone" in refused.stderr
    (stats,) = [row for row in json.loads(world.succeed("stats", "shop.web", "-o", "json"))]
    assert stats["pids"] == found["container_pids", "shop.web"]
