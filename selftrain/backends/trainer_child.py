"""The training process.

    python -m selftrain.backends.trainer_child                        serves jobs that come over its pipe
    python -m selftrain.backends.trainer_child --launch CONFIG JOB    has `accelerate launch` run one job
    python -m selftrain.backends.trainer_child --job JOB              one rank of a launched job

Importing TRL costs seconds, so the server imports it once and forks for each job; a fork starts clean, and all its
memory goes with it. Where there is an accelerator, whose driver does not survive a fork, it does one job and ends.
"""

import os
import pickle
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from selftrain.backends import process
from selftrain.errors import SelftrainError
from selftrain.lab import TrainJob

Task = Callable[[Callable[[int], None]], object]


def main(arguments: list[str]) -> int:
    """Serve, launch, or be a rank."""
    process.die_with_owner()
    match arguments:
        case []:
            return _serve(process.owner_pipe())
        case ["--launch", config, job]:
            return _launch(process.owner_pipe(), config, Path(job))
        case ["--job", job]:
            return _rank(Path(job))
    raise SystemExit(f"unknown arguments: {arguments}")


def _serve(pipe: "Connection[Any, Any]") -> int:
    # Asked through NVML, whether there is a GPU does not start the driver, which must not happen before a fork.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    from selftrain.backends import checkpoints, finetune

    forks = not torch.accelerator.is_available()
    while True:
        try:
            kind, details = pipe.recv()
        except EOFError:
            return 0

        def task(progress: Callable[[int], None], kind: str = kind, details: Any = details) -> object:
            if kind == "prepare":
                return checkpoints.prepare(*details)
            finetune.run(details, progress)
            return None

        if not forks:
            return _do(task, pipe, stays=False)
        pid = os.fork()
        if pid == 0:
            os._exit(_do(task, pipe, stays=True))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            pipe.send(("ended", status, True))


def _do(task: Task, pipe: "Connection[Any, Any]", *, stays: bool) -> int:
    """Do a task, and send what came of it unless it crashed: then the log has the traceback."""
    try:
        pipe.send(("done", task(lambda steps: pipe.send(("steps", steps))), stays))
    except SelftrainError as error:
        pipe.send(("error", error, stays))
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _launch(pipe: "Connection[Any, Any]", config: str, job: Path) -> int:
    # The ranks are in sessions of their own: they are to die with this process, which dies with its owner.
    environment = {**os.environ, process.OWNER: str(os.getpid())}
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config]
    command += ["-m", "selftrain.backends.trainer_child", "--job", str(job)]
    ranks = subprocess.Popen(command, env=environment)
    steps, seen = _steps_file(job), 0
    while True:
        status = ranks.poll()
        now = int(steps.read_text() or 0) if steps.exists() else 0
        if now > seen:
            pipe.send(("steps", now - seen))
            seen = now
        if status is not None:
            break
        time.sleep(0.3)
    pipe.send(("done", None, False) if status == 0 else ("ended", status, False))
    return status


def _rank(file: Path) -> int:
    from selftrain.backends import finetune

    job: TrainJob = pickle.loads(file.read_bytes())
    done = 0

    def progress(steps: int) -> None:
        nonlocal done
        done += steps
        partial = _steps_file(file).with_suffix(".partial")
        partial.write_text(str(done))
        partial.replace(_steps_file(file))

    finetune.run(job, progress)
    return 0


def _steps_file(job: Path) -> Path:
    return job.with_suffix(".steps")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
