"""Time and memory of store, select and build from ten thousand samples to ten million.

python -m benchmarks.growth --work WORK [--samples 10000 100000 1000000]

A real round of `rft` by the real controller, with 100 samples a problem; only sampler and trainer are replaced by ones
that cost nothing (selftrain.testing): what they are asked and given is forgotten, and only one shard's rows are read
for training. Each size is a process of its own, whose peak memory the operating system tells.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.paired import keep
from selftrain.lab import Completion, Progress, Request, Trained, TrainJob

EACH = 100
SHARD = 64
"""Problems of a shard: 6,400 samples."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.one, asked.work / f"run-{asked.one}")))
        return
    found = []
    for samples in asked.samples:
        command = [sys.executable, "-m", "benchmarks.growth", "--work", str(asked.work), "--one", str(samples)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(found[-1], flush=True)
        shutil.rmtree(asked.work / f"run-{samples}")
    sizes = " ".join(map(str, asked.samples))
    keep("growth", f"python -m benchmarks.growth --work WORK --samples {sizes}", {"sizes": found})


def measured(samples: int, root: Path) -> dict[str, Any]:
    """Run one size; return seconds by stage, microseconds a sample and the peak memory in MB."""
    from selftrain import plugins
    from selftrain.testing import FakeBackends, FakeSampler, FakeTrainer, adds, fake_run, sums

    class Forgetful(FakeSampler):
        def sample(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
            yield from super().sample(requests, seed=seed)
            self.requests.clear()

    class Careless(FakeTrainer):
        def train(self, job: TrainJob, progress: Progress) -> Trained:
            return super().train(replace(job, rows=job.rows[:1]), progress)

    class Backends(FakeBackends):
        def sampler(self, checkpoint: Path) -> FakeSampler:
            return Forgetful(checkpoint, self.answer)

        def trainer(self) -> FakeTrainer:
            return Careless(0.2)

    shutil.rmtree(root, ignore_errors=True)
    recipe = plugins.load("recipe", "rft").recipe(samples=EACH)
    parts = {"train": sums(samples // EACH), "valid": sums(8, "valid", 9_000_000), "test": sums(8, "test", 9_000_100)}
    begun = time.monotonic()
    fake_run(recipe, root, problems=parts, backends=Backends(adds), shard=SHARD)
    seconds = time.monotonic() - begun
    events = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    busy = {each["stage"]: each["busy_seconds"] for each in events if each["round"] == 1}
    stages = {name: round(busy.get(name, 0.0), 2) for name in ("generate", "verify", "select", "build")}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {
        "samples": samples, "seconds": round(seconds, 1), "microseconds a sample": round(1e6 * seconds / samples, 1),
        "busy seconds": stages, "peak MB": round(memory),
    }  # fmt: skip


if __name__ == "__main__":
    main()
