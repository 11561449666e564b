"""The training process.

forked by the nursery     does the task that comes over its pipe, and ends
--launch CONFIG JOB       has `accelerate launch` run one job
--job JOB                 is one rank of a launched job
"""

import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from selftrain.backends import checkpoints, process
from selftrain.errors import SelftrainError
from selftrain.lab import Progress, TrainJob


def main(arguments: list[str]) -> int:
    """Do a task, launch, or be a rank."""
    process.die_with_owner()
    match arguments:
        case []:
            return _do(process.owner_pipe())
        case ["--launch", config, job]:
            return _launch(process.owner_pipe(), config, Path(job))
        case ["--job", job]:
            return _rank(Path(job))
    raise SystemExit(f"unknown arguments: {arguments}")


def _do(pipe: "Connection[Any, Any]") -> int:
    """Do a task, and send what came of it unless it crashes: then the log has the traceback."""
    kind, details = pipe.recv()
    try:
        message: tuple[str, object] = ("done", _done(kind, details, lambda steps: pipe.send(("steps", steps))))
    except SelftrainError as error:
        message = ("error", error)
    # The owner ends this process as soon as it has the message.
    sys.stdout.flush()
    sys.stderr.flush()
    pipe.send(message)
    return 0


def _done(kind: str, details: Any, progress: Progress) -> str | None:
    if kind == "prepare":
        return checkpoints.prepare(*details)
    from selftrain.backends import finetune

    finetune.run(details, progress)
    return None


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
    if status == 0:
        pipe.send(("done", None))
    return status


def _rank(file: Path) -> int:
    from selftrain.backends import finetune

    job = TypeAdapter(TrainJob).validate_json(file.read_bytes())
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
