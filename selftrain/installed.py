"""What is installed, read from the packages' metadata and the driver: nothing is imported for it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, distributions, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.version import Version


class TorchBuild(NamedTuple):
    """The torch that is installed, and what it was built for: 'cpu', or CUDA's or ROCm's version."""

    version: str
    built_for: str


def torch_build() -> TorchBuild | None:
    """Return which torch is installed, without importing it."""
    try:
        found = distribution("torch")
    except PackageNotFoundError:
        return None
    source = Path(str(found.locate_file("torch/version.py")))
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    built = re.search(r"^(?:cuda|hip): .*= '([^']+)'", text, re.MULTILINE)
    return TorchBuild(found.version, built[1] if built else "cpu")


def has_cuda() -> bool:
    """Say whether there is a CUDA device with its driver, without asking the driver, which takes a while."""
    return shutil.which("nvidia-smi") is not None and any(Path("/dev").glob("nvidia[0-9]*"))


def cuda_devices() -> list[str]:
    """Return the names of the devices that `nvidia-smi` shows."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return shown.stdout.split("\n")[:-1] if shown.returncode == 0 else []


def same_release(found: str, tested: str) -> bool:
    """Say whether a version is of a release, as in 5.19.0 of 5.19."""
    return Version(found).release[:2] == Version(tested).release[:2]


def version_of(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def applies(requirement: Requirement) -> bool:
    """Say whether a requirement holds on this machine, without extras."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def unmet() -> Iterator[str]:
    """Name each requirement of an installed package that is not met, as `pip check` does."""
    # What stands first on the path is what is imported; a half-removed package has no name.
    named = [(each.metadata["Name"], each) for each in reversed(list(distributions()))]
    installed = {_plain(name): each for name, each in named if name}
    for name, each in installed.items():
        for wanted in filter(applies, map(Requirement, each.requires or [])):
            found = installed.get(_plain(wanted.name))
            if found is None:
                yield f"{name} {each.version} requires {wanted.name}"
            elif not wanted.specifier.contains(found.version, prereleases=True):
                yield f"{name} {each.version} requires {wanted.name}{wanted.specifier}, {found.version} is installed"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
