"""`check` judges files alone and says everything at once."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.agent.checking import check

GOOD = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: NAME}\nspec: {command: [sleep, '1']}\n"


def write(directory: Path, file: str, text: str) -> Path:
    path = directory / file
    path.write_text(text)
    os.utime(path, (1.0, 1.0))
    return path


def test_valid_files_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", GOOD.replace("NAME", "a"))
    write(tmp_path, "b.yaml", GOOD.replace("NAME", "b"))
    found = check([tmp_path])
    assert (found.files, found.names, found.faults) == (2, ["a", "b"], [])


def test_a_fault_has_its_place_and_what_was_meant(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", GOOD.replace("NAME", "a").replace("command", "comand"))
    (fault,) = check([path]).faults
    assert fault.startswith(f"{path}:4:8: ")
    assert 'did you mean "command"' in fault


def test_a_name_in_two_files_is_a_fault_that_names_both(tmp_path: Path) -> None:
    one = write(tmp_path, "1.yaml", GOOD.replace("NAME", "same"))
    two = write(tmp_path, "2.yaml", GOOD.replace("NAME", "same"))
    (fault,) = check([tmp_path]).faults
    assert str(one) in fault and str(two) in fault


def test_what_cannot_be_carried_out_is_a_fault(tmp_path: Path) -> None:
    text = GOOD.replace("NAME", "a").replace("{command", "{resources: {requests: {disk: 1Mi}}, command")
    (fault,) = check([write(tmp_path, "a.yaml", text)]).faults
    assert "spec.resources.requests.disk" in fault and "see resources.limits.disk" in fault


def test_a_path_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    found = check([tmp_path / "nowhere.yaml", tmp_path / "pipe.yaml"])
    assert found.faults == [
        f"{tmp_path}/nowhere.yaml:1:1: cannot be read: No such file or directory",
        f"{tmp_path}/pipe.yaml:1:1: is a FIFO, not a spec file",
    ]


def test_other_files_of_a_directory_are_remarked_on(tmp_path: Path) -> None:
    write(tmp_path, "notes.txt", "hello")
    found = check([tmp_path])
    assert [path for path, _ in found.ignored] == [str(tmp_path / "notes.txt")]
    assert found.faults == []
