"""What a container's processes may do, as the kernel tells it and as they find out."""

from __future__ import annotations

import errno
import json
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Retryable, Unsupported
from reconciler.runtime.isolators.capabilities import DEFAULT
from reconciler.runtime.kernel import capabilities
from tests import processes
from tests.integration.runtime import probing
from tests.integration.runtime.test_exec import execute
from tests.integration.runtime.world import Agent, World, until

pytestmark = [pytest.mark.root, pytest.mark.cgroup]

KEYS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
SHOW = f"grep -E '^({'|'.join(KEYS)}):' /proc/self/status"
SLEEP = ["/bin/sleep", "1000"]
PROJECT = Path(__file__).resolve().parents[3]
KILL = capabilities.mask({"KILL"})
DOCKERS = 0xA80425FB

# mov eax, 20; int 0x80; ret: getpid as i386 has it
I386_GETPID = """
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))
at = ctypes.addressof(ctypes.c_char.from_buffer(code))
assert ctypes.CFUNCTYPE(ctypes.c_int)(at)() > 0
"""

REFUSED = [*probing.CALLS][: [*probing.CALLS].index("clone3")]
ALLOWED = [*probing.CALLS][len(REFUSED) + 1 :]


def parsed(text: str) -> dict[str, int]:
    found = dict(line.split(":", 1) for line in text.splitlines() if line.startswith(KEYS))
    return {key: int(value, 16) for key, value in found.items() if key in KEYS}


def status(pid: int) -> dict[str, int]:
    return parsed(Path(f"/proc/{pid}/status").read_text())


def expected(held: int, bounding: int = DOCKERS, *, nnp: int = 1, seccomp: int = 2) -> dict[str, int]:
    sets = {"CapInh": 0, "CapPrm": held, "CapEff": held, "CapBnd": bounding, "CapAmb": 0}
    return {**sets, "NoNewPrivs": nnp, "Seccomp": seccomp}


async def probe(agent: Agent, name: str, *argv: str, **spec: Any) -> dict[str, Any]:
    """What the prober says from inside."""
    script = str(Path(probing.__file__))
    command = ["/usr/bin/env", f"PYTHONPATH={PROJECT}", sys.executable, script, *argv]
    await agent.launch(name, command=command, **spec)
    ended = await agent.ended(name)
    assert ended.code == 0, agent.output(name, "stderr")
    said: dict[str, Any] = json.loads(agent.output(name))
    return said


@pytest.mark.vm
async def test_root_has_dockers_capabilities_a_filter_and_no_way_up(world: World, init: str) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP)
        await agent.launch("shop.web", command=SLEEP)
        await agent.launch("bare", command=SLEEP, init=False)
        for name in ("shop", "shop.web"):
            assert status(await agent.payload(name)) == expected(DOCKERS)
            assert status(await agent.pid(name)) == expected(KILL, seccomp=0), "the init signals and reaps, no more"
        assert status(await agent.pid("bare")) == expected(DOCKERS)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86_64 has this other way into the kernel")
async def test_the_calls_of_i386_are_no_way_round_the_filter(world: World) -> None:
    asking = [sys.executable, "-c", I386_GETPID]
    async with world.agent() as agent:
        await agent.launch("free", command=asking, security={"seccomp": "unconfined"})
        free = await agent.ended("free")
        if free.signal == signal.SIGSEGV:  # what becomes of `int 0x80` without CONFIG_IA32_EMULATION
            pytest.skip("this kernel has no calls of i386")
        assert free.code == 0, agent.output("free", "stderr")
        await agent.launch("shop", command=asking)
        assert (await agent.ended("shop")).signal == signal.SIGSYS


async def test_another_user_holds_nothing(world: World, init: str) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, user="65534:65534")
        assert status(await agent.payload("shop")) == expected(0)
        assert status(await agent.pid("shop")) == expected(KILL, seccomp=0)


async def test_without_no_new_privileges_all_else_is_the_same(world: World) -> None:
    async with world.agent() as agent:
        for name, user, held in (("shop", None, DOCKERS), ("other", "65534:65534", 0)):
            await agent.launch(name, command=SLEEP, user=user, security={"noNewPrivileges": False})
            assert status(await agent.payload(name)) == expected(held, nnp=0)
        parts = await execute(world, "other", "/bin/sh", "-c", SHOW)
        assert parsed(parts[1]) == expected(0, nnp=0)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ({"drop": ["ALL"]}, set()),
        ({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, {"NET_BIND_SERVICE"}),
        ({"drop": ["SETUID", "SETGID", "SETPCAP"]}, DEFAULT - {"SETUID", "SETGID", "SETPCAP"}),
        ({"add": ["SYS_ADMIN"]}, DEFAULT | {"SYS_ADMIN"}),
    ],
    ids=["none", "one", "fewer", "more"],
)
async def test_capabilities_are_added_and_dropped(world: World, written: dict[str, Any], kept: set[str]) -> None:
    bits = capabilities.mask(kept)
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, security={"capabilities": written})
        assert status(await agent.payload("shop")) == expected(bits, bits)


async def test_what_this_host_has_not_got_is_left_out(world: World) -> None:
    ours = capabilities.bounding()
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, security={"capabilities": {"add": ["ALL"]}})
        assert status(await agent.payload("shop")) == expected(ours, ours)


async def test_privileged_is_all_that_this_host_has(world: World) -> None:
    ours = capabilities.bounding()
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, security={"privileged": True})
        assert status(await agent.payload("shop")) == expected(ours, ours, nnp=0, seccomp=0)


@pytest.mark.parametrize("user", [None, "65534:65534"])
async def test_a_further_process_may_do_what_the_payload_may(world: World, user: str | None) -> None:
    async with world.agent() as agent:
        await agent.launch("shop", command=SLEEP, user=user, security={"capabilities": {"drop": ["MKNOD"]}})
        payload = await agent.payload("shop")
        assert parsed((await execute(world, "shop", "/bin/sh", "-c", SHOW))[1]) == status(payload)
        await agent.launch("shop.look", shell=f"{SHOW}; exec sleep 1000", **{"class": "debug", "parent": "shop"})
        assert parsed(await agent.says("shop.look", "Seccomp:")) == status(payload)


async def test_calls_are_answered_as_the_profile_says(world: World) -> None:
    async with world.agent() as agent:
        said = await probe(agent, "shop", "calls")
    assert {said[name] for name in REFUSED} == {errno.EPERM}
    assert said["clone3"] == errno.ENOSYS
    assert not {name for name in ALLOWED if said.get(name) in (errno.EPERM, errno.ENOSYS)}


async def test_unconfined_nothing_stands_between_it_and_the_kernel(world: World) -> None:
    async with world.agent() as agent:
        said = await probe(agent, "shop", "calls", security={"seccomp": "unconfined"})
    assert not {name for name in probing.CALLS if said.get(name) == errno.EPERM}, "else the other test shows nothing"
    assert said["clone3"] == errno.EINVAL


async def test_with_the_capability_comes_the_call(world: World) -> None:
    async with world.agent() as agent:
        said = await probe(agent, "shop", "calls", security={"capabilities": {"add": ["SYS_ADMIN", "SYS_PTRACE"]}})
    opened = {"unshare", "setns", "clone", "clone3", "open_tree", "perf_event_open", "kcmp", "pidfd_getfd"}
    assert not {name for name in opened if said[name] in (errno.EPERM, errno.ENOSYS)}
    assert {said[name] for name in ("keyctl", "io_uring_enter", "personality", "socket")} == {errno.EPERM}


async def test_a_profile_of_ones_own_is_carried_out(world: World) -> None:
    profile = world.base / "mine.json"
    async with world.agent() as agent:
        with pytest.raises(Retryable, match=r"spec\.security\.seccomp: .*mine\.json: No such file"):
            await agent.launch("early", command=SLEEP, security={"seccomp": str(profile)})
        rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EDQUOT}
        profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
        lines = await agent.run("shop", shell="mkdir new 2>&1; touch here && ls", security={"seccomp": str(profile)})
        assert "Disk quota exceeded" in lines[0] and lines[1:] == ["here"]


async def test_a_set_user_id_program_gives_nothing(world: World) -> None:
    show = "cp /bin/sh mine && chmod 4755 mine && exec setpriv --reuid 65534 --clear-groups ./mine -pc 'id -u; id -ru'"
    async with world.agent() as agent:
        assert await agent.run("shop", shell=f"{show}") == ["65534", "65534"]
        assert await agent.run("loose", shell=show, security={"noNewPrivileges": False}) == ["0", "65534"]


async def test_the_init_ends_a_payload_that_became_somebody_else(world: World) -> None:
    become = "exec setpriv --reuid 65534 --clear-groups sleep 1000"
    async with world.agent() as agent:
        security = {"capabilities": {"drop": ["KILL"]}}
        await agent.launch("shop", shell=become, security=security)
        payload = await agent.payload("shop")
        await until("it is somebody else", lambda: processes.cmdline(payload)[:1] == ("sleep",))
        ended = await agent.destroy("shop", grace=5)
        assert ended is not None and ended.signal == 15


def planted(secret: str) -> dict[str, str]:
    """An environment that leaves the secret in the keeper's memory, often enough to outlast what comes after."""
    return {f"S{number}": secret for number in range(500)}


@pytest.mark.parametrize(
    "security", [{}, {"seccomp": "unconfined", "noNewPrivileges": False}], ids=["default", "loose"]
)
async def test_what_the_keeper_has_in_memory_is_found_nowhere_inside(world: World, security: dict[str, Any]) -> None:
    secret = f"secret-{secrets.token_hex(16)}"
    async with world.agent() as agent:
        await agent.launch("other", command=SLEEP, env=planted(secret))
        assert secret.encode() in probing.contents(world.keeper()), "it is there to be found"
        said = await probe(agent, "shop", "memory", "1", secret[::-1], security=security)
        assert set(said.values()) <= {"EACCES", "EPERM", "ESRCH"}, said
        keeper = str(world.keeper())
        shared = {"namespaces": {"pid": "host"}, "security": security}
        said = await probe(agent, "near", "memory", keeper, secret[::-1], **shared)
        assert set(said.values()) <= {"EACCES", "EPERM", "ESRCH"}, said


async def test_the_prober_finds_what_it_may_read(world: World) -> None:
    async with world.agent() as agent:
        await agent.launch("other", command=SLEEP, env=planted("secret-to-be-found"))
        keeper, shared = str(world.keeper()), {"namespaces": {"pid": "host"}, "security": {"privileged": True}}
        said = await probe(agent, "near", "memory", keeper, "secret-to-be-found"[::-1], **shared)
        assert said["mem"] == "the secret", "else its finding nothing shows nothing"


@pytest.mark.parametrize(
    "security", [{"capabilities": {"add": ["KILL"]}}, {"capabilities": {"drop": ["ALL"]}}], ids=str
)
async def test_the_posix_launcher_says_that_it_leaves_capabilities_alone(
    posix: World, security: dict[str, Any]
) -> None:
    async with posix.agent() as agent:
        with pytest.raises(Unsupported, match=r"spec\.security\.capabilities"):
            await agent.launch("shop", command=SLEEP, security=security)
        await agent.launch("shop", command=SLEEP)
        found = status(await agent.payload("shop"))
        assert (found["NoNewPrivs"], found["Seccomp"]) == (1, 2)


@pytest.mark.vm
async def test_a_device_that_is_on_no_list_cannot_be_opened(world: World) -> None:
    """Root may read /dev/kmsg as far as its mode goes; only a container without limits does."""
    open_it = ["/bin/sh", "-c", "exec 3</dev/kmsg && exec 3<>/dev/null"]
    async with world.agent() as agent:
        await agent.launch("shop", command=open_it)
        assert (await agent.ended("shop")).code != 0
        assert "Operation not permitted" in agent.output("shop", "stderr")
        await agent.launch("all", command=open_it, security={"privileged": True})
        assert (await agent.ended("all")).code == 0, agent.output("all", "stderr")
