"""Seconds to serve new weights: in place, with all its checks, and by starting the engine again.

python -m benchmarks.swap --run RUN [--repeats 3]

RUN is a finished run on vLLM with at least two rounds; its checkpoints are served in turn.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.paired import keep
from selftrain.backends.vllm import VllmSampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    made = sorted(asked.run.glob("round-*/*-train/checkpoint"))[-2:]
    starts, swaps, gaps = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(asked.repeats):
            begun = time.monotonic()
            sampler = VllmSampler(made[0], log=Path(folder) / "engine.log")
            starts.append(time.monotonic() - begun)
            try:
                for checkpoint in (made[1], made[0]):
                    begun = time.monotonic()
                    sampler.load(checkpoint)
                    swaps.append(time.monotonic() - begun)
                    gaps.append(sampler.gap)
            finally:
                sampler.close()
    command = f"python -m benchmarks.swap --run RUN --repeats {asked.repeats}"
    figures = {
        "start": [round(each, 2) for each in starts], "swap": [round(each, 2) for each in swaps],
        "ratio": round(median(starts) / median(swaps), 1), "nats a token from the trainer's": gaps,
    }  # fmt: skip
    keep("swap", command, figures)


if __name__ == "__main__":
    main()
