"""Several containerizers acting as one: who gets a container, and what one of them can do to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import LaunchFailed, Retryable, Terminal, Unsupported
from reconciler.runtime import composing
from reconciler.runtime.composing import ComposingContainerizer
from reconciler.runtime.containerizer import ContainerConfig, ContainerStatus, LaunchResult, Termination, Usage
from reconciler.spec.model import ContainerSpec, ResourceAmounts
from reconciler.states import ContainerState, Reason

composing._FIRST_RETRY = 0.01
ENDED = Termination(None, 15, Reason.SIGNALED, 1.0)


class Fake:
    """Takes what its `answer` says. `asked` lists launches and destroys, in order."""

    def __init__(self, name: str, answer: LaunchResult | BaseException = LaunchResult.LAUNCHED) -> None:
        self.name = name
        self.answer = answer
        self.has: set[str] = set()
        self.asked: list[str] = []
        self.recovery: BaseException | None = None
        self.go = asyncio.Event()
        self.go.set()
        self.destruction: BaseException | None = None

    async def recover(self) -> None:
        if self.recovery:
            raise self.recovery

    def refuses(self, spec: ContainerSpec) -> str | None:
        return None

    async def provide(self, spec: ContainerSpec, say: Callable[[str], None]) -> None:
        return None

    async def launch(self, config: ContainerConfig) -> LaunchResult:
        self.asked.append(f"launch {config.name}")
        await self.go.wait()
        if isinstance(self.answer, LaunchFailed):
            self.has.add(config.name)  # a run that failed stays until it is destroyed
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer is LaunchResult.LAUNCHED:
            self.has.add(config.name)
        return self.answer

    async def destroy(self, name: str, *, grace: float | None = None) -> Termination | None:
        self.asked.append(f"destroy {name}")
        if self.destruction:
            raise self.destruction
        known = {each for each in self.has if each == name or each.startswith(f"{name}.")}
        self.has -= known
        return ENDED if known else None

    async def usage(self, name: str) -> Usage | None:
        return {"pids": 1} if name in self.has else None

    async def status(self, name: str) -> ContainerStatus | None:
        return ContainerStatus(name, self.name, ContainerState.RUNNING, "d") if name in self.has else None

    async def wait(self, name: str) -> Termination | None:
        return ENDED if name in self.has else None

    async def kill(self, name: str, signal: int) -> bool:
        return name in self.has

    async def update(self, name: str, requests: ResourceAmounts, limits: ResourceAmounts) -> None:
        self.asked.append(f"update {name}")

    def containers(self) -> Sequence[str]:
        return sorted(self.has)

    def notes(self) -> Mapping[str, str]:
        return {}

    async def close(self) -> None:
        self.asked.append("close")


def config(name: str) -> ContainerConfig:
    return ContainerConfig(ContainerSpec(name=name, shell="x"), "d", Path("/s"), Path("/l"))


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_loop
async def test_only_not_supported_moves_on_to_the_next() -> None:
    first, second, third = Fake("a", LaunchResult.NOT_SUPPORTED), Fake("b"), Fake("c")
    composed = ComposingContainerizer([first, second, third])
    assert await composed.launch(config("shop")) is LaunchResult.LAUNCHED
    assert (first.asked, second.asked, third.asked) == (["launch shop"], ["launch shop"], [])
    status = await composed.status("shop")
    assert status is not None and status.containerizer == "b"


@pytest.mark.parametrize("error", [Terminal("no"), Retryable("later"), Unsupported("not here"), LaunchFailed("x", 127)])
def test_an_error_does_not_move_on(error: Exception) -> None:
    async def scene() -> None:
        first, second = Fake("a", error), Fake("b")
        with pytest.raises(type(error)):
            await ComposingContainerizer([first, second]).launch(config("shop"))
        assert second.asked == []

    asyncio.run(scene())


@in_loop
async def test_nobody_wanting_it_leaves_nothing_behind() -> None:
    composed = ComposingContainerizer([Fake("a", LaunchResult.NOT_SUPPORTED)])
    assert await composed.launch(config("shop")) is LaunchResult.NOT_SUPPORTED
    assert await composed.launch(config("shop")) is LaunchResult.NOT_SUPPORTED
    assert composed.containers() == [] and await composed.status("shop") is None


@in_loop
async def test_a_name_is_launched_once() -> None:
    fake = Fake("a")
    composed = ComposingContainerizer([fake])
    fake.go.clear()
    first = asyncio.create_task(composed.launch(config("shop")))
    await asyncio.sleep(0)
    assert await composed.launch(config("shop")) is LaunchResult.ALREADY_LAUNCHED
    fake.go.set()
    assert await first is LaunchResult.LAUNCHED
    assert await composed.launch(config("shop")) is LaunchResult.ALREADY_LAUNCHED
    assert fake.asked == ["launch shop"]


@in_loop
async def test_a_nested_container_goes_to_the_owner_of_its_root_alone() -> None:
    first, second = Fake("a", LaunchResult.NOT_SUPPORTED), Fake("b")
    composed = ComposingContainerizer([first, second])
    await composed.launch(config("shop"))
    await composed.launch(config("shop.web"))
    await composed.launch(config("shop.web.log"))
    assert first.asked == ["launch shop"]
    assert second.asked == ["launch shop", "launch shop.web", "launch shop.web.log"]


@in_loop
async def test_a_nested_container_without_a_root_is_refused_with_a_reason() -> None:
    with pytest.raises(Retryable) as refused:
        await ComposingContainerizer([Fake("a")]).launch(config("shop.web"))
    assert refused.value.reason is Reason.PARENT_NOT_RUNNING and "root shop" in refused.value.message


@in_loop
async def test_destroying_while_it_is_launched_reaches_the_one_that_launches_and_ends_the_offers() -> None:
    first, second = Fake("a", LaunchResult.NOT_SUPPORTED), Fake("b")
    composed = ComposingContainerizer([first, second])
    first.go.clear()
    launching = asyncio.create_task(composed.launch(config("shop")))
    await asyncio.sleep(0)
    await composed.destroy("shop")
    first.go.set()
    with pytest.raises(Retryable) as ended:
        await launching
    assert ended.value.reason is Reason.DESTROYED
    assert first.asked == ["launch shop", "destroy shop"] and second.asked == []


@in_loop
async def test_destroying_a_root_forgets_what_was_nested_in_it() -> None:
    fake = Fake("a")
    composed = ComposingContainerizer([fake])
    for name in ("shop", "shop.web", "other"):
        await composed.launch(config(name))
    assert await composed.destroy("shop") == ENDED
    assert composed.containers() == ["other"]
    assert await composed.launch(config("shop")) is LaunchResult.LAUNCHED


@in_loop
async def test_a_failed_destroy_can_be_repeated() -> None:
    fake = Fake("a")
    composed = ComposingContainerizer([fake])
    await composed.launch(config("shop"))
    fake.destruction = Retryable("stuck", Reason.DESTROY_FAILED)
    with pytest.raises(Retryable):
        await composed.destroy("shop")
    assert await composed.launch(config("shop")) is LaunchResult.ALREADY_LAUNCHED
    fake.destruction = None
    assert await composed.destroy("shop") == ENDED and composed.containers() == []


@in_loop
async def test_a_failed_launch_that_is_kept_as_a_run_can_be_seen_and_destroyed() -> None:
    fake = Fake("a", LaunchFailed("no such command", 127))
    composed = ComposingContainerizer([fake])
    with pytest.raises(LaunchFailed):
        await composed.launch(config("shop"))
    assert composed.containers() == ["shop"] and await composed.status("shop") is not None
    assert await composed.destroy("shop") == ENDED


@in_loop
async def test_what_its_owner_has_given_up_is_launched_anew() -> None:
    """A launch that failed may leave a name that its owner drops later by itself."""
    fake = Fake("a", LaunchFailed("no such runtime", 126))
    both = ComposingContainerizer([fake])
    with pytest.raises(LaunchFailed):
        await both.launch(config("web"))
    fake.has.clear()
    fake.answer = LaunchResult.LAUNCHED
    assert await both.launch(config("web")) is LaunchResult.LAUNCHED


@in_loop
async def test_an_unknown_name_is_destroyed_everywhere_and_one_failure_spares_the_others() -> None:
    first, second = Fake("a"), Fake("b")
    first.destruction = Retryable("stuck", Reason.DESTROY_FAILED)
    composed = ComposingContainerizer([first, second])
    with pytest.raises(Retryable):
        await composed.destroy("left")
    assert second.asked == ["destroy left"]


@in_loop
async def test_all_recover_at_the_same_time() -> None:
    """Each waits for the other: one after the other would take for ever."""

    class Waiting(Fake):
        async def recover(self) -> None:
            both.append(self.name)
            if len(both) == 2:
                together.set()
            await together.wait()
            self.has = {f"of-{self.name}"}

    both, together = list[str](), asyncio.Event()
    composed = ComposingContainerizer([Waiting("a"), Waiting("b")])
    await composed.recover()
    assert composed.containers() == ["of-a", "of-b"]


@in_loop
async def test_one_that_cannot_let_go_keeps_no_other_from_it() -> None:
    class Failing(Fake):
        async def close(self) -> None:
            raise OSError("stuck")

    second = Fake("b")
    with pytest.raises(OSError, match="stuck"):
        await ComposingContainerizer([Failing("a"), second]).close()
    assert second.asked == ["close"]


@in_loop
async def test_one_that_cannot_recover_makes_its_containers_unknown_and_not_absent() -> None:
    broken, sound = Fake("a"), Fake("b")
    broken.recovery, sound.has = OSError("no engine"), {"job"}
    composed = ComposingContainerizer([broken, sound])
    await composed.recover()
    assert await composed.status("job") is not None
    with pytest.raises(Retryable) as unknown:
        await composed.status("shop")
    assert unknown.value.reason is Reason.STATE_UNKNOWN and "no engine" in unknown.value.message


@in_loop
async def test_a_failed_recovery_is_tried_again_until_it_succeeds() -> None:
    told: list[str] = []
    recovered = asyncio.Event()

    def notify(name: str) -> None:
        told.append(name)
        recovered.set()

    broken, sound = Fake("a"), Fake("b")
    broken.recovery = OSError("no keeper")
    composed = ComposingContainerizer([broken, sound], notify)
    await composed.recover()
    assert "no keeper" in composed.notes()["containerizer a"]
    with pytest.raises(Retryable):
        await composed.destroy("shop")
    assert broken.asked == sound.asked == [], "nothing is destroyed that nobody can see"
    broken.recovery, broken.has = None, {"shop"}
    await recovered.wait()
    assert told == ["a"] and composed.notes() == {}
    assert await composed.launch(config("shop")) is LaunchResult.ALREADY_LAUNCHED
    await composed.close()


@in_loop
async def test_one_whose_containers_are_unknown_is_given_no_new_ones() -> None:
    sound, broken, last = Fake("a", LaunchResult.NOT_SUPPORTED), Fake("b"), Fake("c")
    broken.recovery = OSError("no engine")
    composed = ComposingContainerizer([sound, broken, last])
    await composed.recover()
    with pytest.raises(Retryable) as refused:
        await composed.launch(config("shop"))
    assert refused.value.reason is Reason.STATE_UNKNOWN and broken.asked == [] and last.asked == []
    sound.answer = LaunchResult.LAUNCHED
    assert await composed.launch(config("shop")) is LaunchResult.LAUNCHED, "the sound one is not held up"


@in_loop
async def test_a_bug_in_recovery_is_not_taken_for_a_failure_of_the_host() -> None:
    broken = Fake("a")
    broken.recovery = ZeroDivisionError("bug")
    with pytest.raises(ZeroDivisionError):
        await ComposingContainerizer([broken]).recover()


@in_loop
async def test_what_was_recovered_is_launched_already() -> None:
    fake = Fake("a")
    fake.has = {"shop"}
    composed = ComposingContainerizer([fake])
    await composed.recover()
    assert await composed.launch(config("shop")) is LaunchResult.ALREADY_LAUNCHED
    assert await composed.kill("shop", 15) and await composed.wait("shop") == ENDED
    assert not await composed.kill("nobody", 15) and await composed.wait("nobody") is None


@in_loop
async def test_updating_reaches_the_owner_and_an_unknown_name_is_an_error() -> None:
    fake = Fake("a")
    composed = ComposingContainerizer([fake])
    await composed.launch(config("shop"))
    await composed.update("shop", ResourceAmounts(), ResourceAmounts())
    assert fake.asked[-1] == "update shop"
    with pytest.raises(Retryable):
        await composed.update("nobody", ResourceAmounts(), ResourceAmounts())
