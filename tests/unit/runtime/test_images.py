"""What references, manifests and configurations mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.errors import Terminal
from reconciler.runtime.provisioner import manifests, references, settings
from reconciler.runtime.provisioner.manifests import BadImage, Blob, ImageConfig
from reconciler.runtime.provisioner.references import Local, Remote
from reconciler.runtime.provisioner.registry import Access
from reconciler.spec.attachments import Image
from reconciler.spec.model import ContainerSpec

DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("oci:/srv/image", Local("oci", "/srv/image", None)),
        ("oci:/srv/image:1.4", Local("oci", "/srv/image", "1.4")),
        ("oci-archive:/srv/image.tar:1", Local("oci-archive", "/srv/image.tar", "1")),
        ("docker-archive:/srv/image.tar:box:1", Local("docker-archive", "/srv/image.tar", "box:1")),
        ("registry.example/team/web:1.4", Remote("registry.example", "team/web", "1.4", None)),
        ("localhost:5000/web", Remote("localhost:5000", "web", "latest", None)),
        (f"[::1]:5000/web:1@{DIGEST}", Remote("[::1]:5000", "web", "1", DIGEST)),
        ("busybox", Remote("docker.io", "library/busybox", "latest", None)),
        ("team/web", Remote("docker.io", "team/web", "latest", None)),
    ],
)
def test_a_reference_names_a_place_and_perhaps_one_of_several(reference: str, expected: Local | Remote) -> None:
    assert references.parse(reference) == expected


@pytest.mark.parametrize(
    "reference", ["oci:relative", "oci:", "Web", "a/../b", "web@sha256:1", "h:1/", "-x/y", "web:1 "]
)
def test_what_names_nothing_is_refused(reference: str) -> None:
    with pytest.raises(Terminal, match=r"spec\.image\.reference"):
        references.parse(reference)


def entry(digest: str = DIGEST, name: str = "", **platform: str) -> dict[str, Any]:
    found: dict[str, Any] = {"digest": digest, "size": 1}
    if name:
        found["annotations"] = {"org.opencontainers.image.ref.name": name}
    return found | ({"platform": {"os": "linux", **platform}} if platform else {})


def test_the_manifest_of_this_machine_and_tag_is_chosen() -> None:
    index = {"manifests": [entry(OTHER, architecture="arm64"), entry(architecture="amd64")]}
    assert manifests.choose(index, None, "amd64") == Blob(DIGEST, 1)
    named = {"manifests": [entry(OTHER, "one"), entry(name="two")]}
    assert manifests.choose(named, "two", "amd64") == Blob(DIGEST, 1)


@pytest.mark.parametrize(
    ("entries", "tag", "why"),
    [
        ([entry(architecture="arm64")], None, "no image for linux/amd64"),
        ([entry(name="one")], "two", "there are: one"),
        ([entry(name="one"), entry(OTHER, "two")], None, "several images, say which: one, two"),
        ([{"digest": "md5:1", "size": 1}], None, "no sha256 digest"),
        ([{"digest": DIGEST, "size": -1}], None, "no descriptor"),
    ],
)
def test_an_index_without_a_choice_says_what_there_is(entries: list[Any], tag: str | None, why: str) -> None:
    with pytest.raises(BadImage, match=why):
        manifests.choose({"manifests": entries}, tag, "amd64")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"layers": [], "manifests": []}', "both"),
        (b" " * (manifests.LARGEST + 1), "larger"),
    ],
)
def test_a_document_that_is_none_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadImage, match=why):
        manifests.document(data, "it")


def config(**found: Any) -> ImageConfig:
    text = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [DIGEST]}, "config": found}
    return manifests.config(manifests.document(json.dumps(text).encode(), "it"), "amd64")[0]


def test_an_image_for_another_machine_or_with_no_words_is_refused() -> None:
    for found in ({"Cmd": "sh"}, {"Env": [1]}, {"User": "a\0b"}, {"Entrypoint": ["a\0"]}):
        with pytest.raises(BadImage, match=r"in its configuration|is no list"):
            config(**found)
    for test in ({"Test": "x"}, {"Test": ["CMD"]}, {"Test": ["NEW", "x"]}, {"Test": ["CMD", "x"], "Retries": -1}):
        with pytest.raises(BadImage, match=r"in its configuration|is no list"):
            config(Healthcheck=test)
    with pytest.raises(BadImage, match="linux/arm64"):
        manifests.config({"architecture": "arm64"}, "amd64")


IMAGE = ImageConfig(("/enter",), ("serve",), (("A", "image"), ("B", "image"), ("MESOS_SANDBOX", "/lie")))


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        ({}, ["/enter", "serve"]),
        ({"args": ["other"]}, ["/enter", "other"]),
        ({"command": ["mine"]}, ["mine"]),
        ({"command": ["mine"], "args": ["x"]}, ["mine", "x"]),
    ],
)
def test_command_replaces_entrypoint_and_command_and_args_the_command(written: dict[str, Any], argv: list[str]) -> None:
    made = applied(IMAGE, **written)
    assert [*(made.command or ()), *made.args] == argv


def applied(image: ImageConfig, **written: Any) -> ContainerSpec:
    spec = {"name": "web", "image": {"reference": "oci:/x"}, **written}
    return settings.applied(ContainerSpec.model_validate(spec), image)


def test_the_spec_has_the_last_word_and_ours_are_not_the_images() -> None:
    assert applied(IMAGE, env={"B": "spec"}).env == {"A": "image", "B": "spec"}
    image = ImageConfig(("x",), working_dir="srv", user="web", stop_signal="QUIT")
    plain, own = applied(image), applied(image, workingDir="/o", user="1", killPolicy={"signal": "SIGHUP"})
    assert (plain.working_dir, plain.user, plain.kill_policy.signal) == ("/srv", "web", "SIGQUIT")
    assert (own.working_dir, own.user, own.kill_policy.signal) == ("/o", "1", "SIGHUP")
    assert applied(ImageConfig(("x",), stop_signal="3")).kill_policy.signal == "SIGQUIT"


def test_an_images_check_withholds_ready_at_dockers_times() -> None:
    spec = ContainerSpec.model_validate({"name": "web", "image": {"reference": "x"}})
    without = spec.model_copy(update={"image": Image(reference="x", health_check=False)})

    def check(**found: Any) -> dict[str, Any]:
        (made,) = settings.health_checks(spec, config(**found))
        assert settings.health_checks(without, config(**found)) == ()
        return made

    plain = check(Healthcheck={"Test": ["CMD-SHELL", "curl x"]})
    assert (plain["role"], plain["command"]) == ("readiness", ["/bin/sh", "-c", "curl x"])
    times = ("delay", "interval", "timeout", "gracePeriod", "consecutiveFailures")
    assert [plain[each] for each in times] == [5, 30, 30, 0, 3]
    given = {"Interval": 2 * 10**9, "Timeout": 5 * 10**8, "StartPeriod": 10**9, "Retries": 1, "StartInterval": 10**8}
    said = check(Healthcheck={"Test": ["CMD", "/probe", "-q"], **given}, Shell=["/bin/bash"])
    assert said["command"] == ["/probe", "-q"] and [said[each] for each in times] == [0.1, 2, 0.5, 1, 1]
    assert check(Healthcheck={"Test": ["CMD-SHELL", "x"]}, Shell=["/bin/bash"])["command"] == ["/bin/bash", "x"]
    for none in ({}, {"Healthcheck": None}, {"Healthcheck": {"Test": []}}, {"Healthcheck": {"Test": ["NONE"]}}):
        assert settings.health_checks(spec, config(**none)) == ()


def test_volumes_are_the_images_but_where_the_spec_has_one() -> None:
    image = config(Volumes={"/data/": {}, "/data/db": {}, "log": {}})
    spec = {"name": "web", "image": {"reference": "oci:/x"}}
    own = {"volumes": [{"type": "tmpfs", "target": "/data"}]}
    assert settings.volumes(ContainerSpec.model_validate(spec), image) == ("/data", "/data/db", "/log")
    assert settings.volumes(ContainerSpec.model_validate(spec | own), image) == ("/data/db", "/log")


@pytest.mark.parametrize("image", [ImageConfig(), ImageConfig(("x",), stop_signal="SIGNO"), ImageConfig(("",))])
def test_an_image_that_cannot_be_run_says_what_to_write(image: ImageConfig) -> None:
    with pytest.raises(Terminal, match=r"spec\.command|killPolicy\.signal"):
        applied(image)


def test_plain_http_is_for_loopback_and_for_whom_it_was_allowed() -> None:
    access = Access(("registry.example:5000",))
    for registry in ("localhost:5000", "127.0.0.1", "127.8.0.1:80", "[::1]:5000", "registry.example:5000"):
        assert access.scheme(registry) == "http"
    for registry in ("registry.example", "127.0.0.1.example", "localhost.example", "10.0.0.1:5000"):
        assert access.scheme(registry) == "https"
