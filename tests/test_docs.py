"""The pages in docs/ say what is so: their code runs as it stands there, and their lists are complete."""

import doctest
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from selftrain.records import Status
from selftrain.verification.conformance import check
from selftrain.verification.verify import RESOURCES, TIME_LIMIT
from tests.test_packaging import pip_install, site_packages, source, wheel
from tools import measured_table
from tools.verifiers_table import written

__all__ = ["source", "wheel"]  # fixtures
PAGE = Path(__file__).parent.parent / "docs" / "verifiers.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A code block of a page."""

    language: str
    text: str


def blocks() -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(PAGE.read_text(encoding="utf-8"))]


def rows(heading: str) -> Iterator[list[str]]:
    """Yield the cells of the first table after a heading, without its head."""
    page = PAGE.read_text(encoding="utf-8")
    table = page[page.index(f"### {heading}\n") :].partition("\n|")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {block.language for block in blocks()} == {"bash", "python", "toml", "text"}
    for block in blocks():
        if block.language in ("python", "toml"):
            assert re.match(r"# [\w./-]+\n", block.text), block.text


def test_the_built_in_verifiers_are_listed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "run python tools/verifiers_table.py"


def test_what_the_leaderboard_measured_is_in_the_table_of_recipes() -> None:
    page = measured_table.PAGE.read_text(encoding="utf-8")
    assert page == measured_table.written(page), "run python tools/measured_table.py"


def test_statuses_resources_and_checks_are_listed(tmp_path: Path) -> None:
    assert [row[0] for row in rows("What it returns")] == list(get_args(Status))
    assert [row[0] for row in rows("What it may ask for")] == [*RESOURCES, "judge"]
    checked = [finding.name for finding in check("number").findings]
    assert [row[0] for row in rows("What `--check` looks at")] == checked
    assert f"by default {TIME_LIMIT:g};" in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_runs_as_it_stands(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment with nothing but the wheel, and the libraries it needs seen from here."""
    venv, folder = tmp_path / "venv", tmp_path / "work"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    Path(site_packages(venv), "libraries.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    pip_install(venv / "bin" / "python", wheel)
    # The one that venv brings on Python 3.11 is too old to build by; the libraries' own is seen without it.
    subprocess.run([venv / "bin" / "pip", "uninstall", "-q", "-y", "setuptools"], check=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {"PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(venv)}
    # Without an index the build must find setuptools where it is; "0" is pip's way to say no isolation.
    environment |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    printed = ""
    for block in blocks():
        if block.language == "text":
            seen = doctest.OutputChecker().check_output(block.text, printed, FLAGS)
            assert seen, f"the page says\n{block.text}\nbut this was printed\n{printed}"
        elif block.language == "bash":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            printed = done.stdout
        else:
            path = folder / block.text.partition("\n")[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
