"""Verifiers from outside: a single file, and a package that was installed on its own, both in a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import selftrain
from selftrain.records import Verdict
from selftrain.store import Store

SMALL = ("model=nano", "data=sums", "pool=16", "valid=12", "test=12", "rounds=1", "samples=4", "max_new_tokens=48")
CODE = """
from selftrain import Case

cases = [Case(response="#### 4", answer="4", expect="pass"), Case(response="#### 5", answer="4", expect="fail")]


def verify(*, problem, response):
    return response.strip().endswith("#### " + problem.answer)
"""


def verdicts(root: Path) -> list[Verdict]:
    folder = Store(root).stages(1)["verify"]
    return [verdict for shard in folder.shards() for verdict in folder.read(Verdict, shard)]


def test_a_verifier_in_a_single_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    settings = dict(pair.split("=") for pair in SMALL)
    run = selftrain.run("rest_em", verifier="./mine.py", out="run", **settings)  # type: ignore[arg-type]
    found = verdicts(run.root)
    assert len(found) == 64
    assert {v.by for v in found} == {str(tmp_path / "mine.py")}
    assert {v.status for v in found} == {"pass", "fail"}


@pytest.mark.slow
def test_a_verifier_of_an_installed_package(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "acme_selftrain" / "verifiers").mkdir(parents=True)
    (source / "acme_selftrain" / "__init__.py").write_text("")
    (source / "acme_selftrain" / "verifiers" / "strict.py").write_text(CODE)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "acme"\nversion = "1"\n'
        '[project.entry-points."selftrain.plugins"]\nacme = "acme_selftrain"\n'
        '[tool.setuptools]\npackages = ["acme_selftrain", "acme_selftrain.verifiers"]\n'
    )
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(source)], check=True, capture_output=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "selftrain.cli", "run", "rest_em", *SMALL, "verifier=acme/strict"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 3), done.stderr
    found = verdicts(tmp_path / "run")
    assert {v.by for v in found} == {"acme/strict"}
    assert {v.status for v in found} == {"pass", "fail"}
