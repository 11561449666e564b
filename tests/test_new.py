"""What `selftrain new` writes works as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

import selftrain
from selftrain.plugins import KINDS, available
from tests.front_door import call, refused

LONGEST = "as_long_as_a_name_can_be_" + "x" * 5


def written(folder: Path, kind: str, name: str) -> list[str]:
    answer = call("new", kind, name, "--in", folder)
    assert answer.code == 0, answer
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"{name}.py", f"test_{name}.py"])
    return [line.strip() for line in answer.out.splitlines()]


def pytest_passes(folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["verifier", "data", pytest.param("recipe", marks=pytest.mark.slow)])
def test_a_new_file_passes_its_test_as_written(kind: str, tmp_path: Path) -> None:
    written(tmp_path, kind, "first_one")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_commands_it_names_work(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = written(Path("mine"), kind, "first_one")
    assert said[0] == "wrote mine/first_one.py and mine/test_first_one.py"
    assert said[1] == "next:"
    for command in said[2:]:
        words = command.split()
        assert words[0] == "selftrain"
        assert "./mine/first_one.py" in command
        # A run is only planned here; it runs in tests/test_docs.py.
        answer = call(*words[1:], *(["--dry-run"] if words[1] == "run" and "--dry-run" not in words else []))
        assert answer.code == 0, (command, answer)


@pytest.mark.parametrize("name", ["x", LONGEST])
def test_new_files_are_formatted_linted_and_typed(name: str, tmp_path: Path) -> None:
    for kind in KINDS:
        written(tmp_path / kind, kind, name)
    rules = ["--config", 'lint.select = ["E", "F", "W", "I", "B", "UP", "N", "SIM", "RUF", "D1", "PT"]']
    width = ["--config", "line-length = 120", "--isolated"]
    for command in (
        ["ruff", "check", *width, *rules, str(tmp_path)],
        ["ruff", "format", "--check", *width, str(tmp_path)],
    ):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name", ["Mine", "my-verifier", "class", "été", "", "_mine", "test_mine", "a/b", "../b", "x" * 31]
)
def test_a_name_that_cannot_be_listed_is_refused(name: str, tmp_path: Path) -> None:
    assert "can't be the name of a verifier" in refused("new", "verifier", name, "--in", tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_the_test_beside_a_plug_in_is_no_plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "verifiers", "verifier", "mine")
    monkeypatch.setattr(selftrain, "__path__", [*selftrain.__path__, str(tmp_path)])
    assert "mine" in available("verifier")
    assert "test_mine" not in available("verifier")


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("kept")
    assert "test_mine.py is there already" in refused("new", "verifier", "mine", "--in", tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("test_mine.py", "kept")]


def test_other_mistakes_are_one_line(tmp_path: Path) -> None:
    assert "'number' is a verifier of selftrain already" in refused("new", "verifier", "number", "--in", tmp_path)
    assert "did you mean verifier?" in refused("new", "verifer", "mine", "--in", tmp_path)
    (tmp_path / "file").touch()
    assert "cannot write into" in refused("new", "verifier", "mine", "--in", tmp_path / "file")
    assert "cannot write into" in refused("new", "verifier", "mine", "--in", tmp_path / "file" / "below")
