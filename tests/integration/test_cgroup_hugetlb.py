"""Huge pages on real cgroups: what is over the limit is not given, the rest is counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import Retryable
from reconciler.runtime.isolators.cgroups_hugetlb import HugetlbIsolator
from reconciler.runtime.isolators.isolator import Context
from reconciler.runtime.kernel import cgroups
from reconciler.runtime.launcher.cgroup_tree import DEFAULT_CONTROLLERS, CgroupTree
from reconciler.spec.model import ResourceAmounts
from tests.integration.cgroup_worlds import ROOT, finish, start, tree_on

MIB = 1 << 20
NOTHING = ResourceAmounts()
POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
# maps as many MiB of them as it is told, touches each page, says how that went, and holds what it got
MAPPER = (
    "import mmap, sys\n"
    "for line in sys.stdin:\n"
    " try:\n"
    "  held = mmap.mmap(-1, int(line) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)\n"
    "  held[:: 1 << 21] = bytes(len(held[:: 1 << 21])); print('got', flush=True)\n"
    " except OSError as error: print(error.errno, flush=True)"
)

pytestmark = [
    pytest.mark.root,
    pytest.mark.cgroup,
    pytest.mark.vm,
    pytest.mark.skipif(cgroups.read_map().hierarchy_of("hugetlb") is None, reason="no cgroup controller hugetlb"),
    pytest.mark.skipif(not POOL.exists(), reason="no huge pages of 2 MiB"),
]


@pytest.fixture
def pages() -> Iterator[None]:
    before = int(POOL.read_text())
    POOL.write_text(str(before + 8))
    if int(POOL.read_text()) < before + 8:
        pytest.skip("no memory in one piece for huge pages")
    yield
    POOL.write_text(str(before))


def limit(size: int) -> ResourceAmounts:
    return ResourceAmounts(hugepages={"2Mi": size * MIB})


def context(tree: CgroupTree, name: str) -> Context:
    return Context(name=name, cgroups=tree.paths(name), runtime_dir=Path("/nowhere"))


@pytest.mark.usefixtures("pages")
def test_a_container_gets_as_many_huge_pages_as_its_limit_and_no_more() -> None:
    with tree_on(cgroups.read_map()) as tree:
        hugetlb = HugetlbIsolator(tree.map)
        for name in ("shop", "shop.web"):
            tree.create(name)
        outer, inner = (context(tree, name) for name in ("shop", "shop.web"))
        hugetlb.update(outer, NOTHING, limit(4))
        process = start(tree, "shop.web", f'exec {sys.executable} -c "{MAPPER}"')
        assert process.stdin is not None and process.stdout is not None

        def asks(size: int) -> str:
            process.stdin.write(b"%d\n" % size)
            process.stdin.flush()
            return process.stdout.readline().decode().strip()

        assert asks(6) == "12", "ENOMEM: the parent's limit holds for it"
        assert asks(2) == "got"
        for at, bound in ((outer, 4 * MIB), (inner, None)):
            usage = hugetlb.usage(at)
            assert (usage["hugepages.2Mi.bytes"], usage["hugepages.2Mi.limit_bytes"]) == (2 * MIB, bound)
        assert (hugetlb.usage(outer)["hugepages.2Mi.refused"] or 0) > 0
        hugetlb.update(outer, NOTHING, limit(8))
        assert asks(6) == "got", "raised in place"
        with pytest.raises(Retryable, match=r"2Mi: 4Mi is below present usage of [68]Mi; the limit of 8Mi stays"):
            hugetlb.update(outer, NOTHING, limit(4))
        assert hugetlb.usage(outer)["hugepages.2Mi.limit_bytes"] == 8 * MIB
        hugetlb.update(outer, NOTHING, NOTHING)
        assert hugetlb.usage(outer)["hugepages.2Mi.limit_bytes"] is None
        tree.kill("shop")
        finish(process)


@pytest.mark.usefixtures("pages")
def test_what_was_launched_before_there_was_a_limit_on_huge_pages_is_given_one() -> None:
    host = cgroups.read_map()
    with tree_on(host, DEFAULT_CONTROLLERS - {"hugetlb"}) as before:
        before.create("old")
        process = start(before, "old", "exec sleep 1000")
        (owner,) = {Path(root).name for root in before.roots()}
        tree = CgroupTree(host, ROOT, owner)
        tree.gather("old", [process.pid])
        assert tree.strays("old", [process.pid]) == {}
        HugetlbIsolator(host).update(context(tree, "old"), NOTHING, limit(2))
        assert HugetlbIsolator(host).usage(context(tree, "old"))["hugepages.2Mi.limit_bytes"] == 2 * MIB
        before.kill("old")
        finish(process)
