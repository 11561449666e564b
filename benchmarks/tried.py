"""What else a LoRA training could do: each way beside the way that it is done, on the same rows.

python -m benchmarks.tried --run RUN --work WORK [--round 3] [--repeats 3] [--ways NAME ...]

RUN is a finished run on SmolLM2-135M, whose rows of a round are trained on for two epochs, as in `benchmarks.training`.
The sides take turns. Ratios are of the seconds of the steps to those of the way it is done: beside the steps a training
has the imports of torch in it here, wherever the environment has changed. torch.compile takes many minutes: without
--ways it is left out.
"""

import argparse
import os
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.paired import keep
from benchmarks.training import ours, rows_of

AS_IT_IS, COMPILED, ONE_THREAD = "as it is", "torch.compile", "one thread"
WAYS: dict[str, dict[str, Any]] = {
    AS_IT_IS: {},
    COMPILED: {"torch_compile": True},
    "batches of 8": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
    "batches of 32, half as many steps": {"per_device_train_batch_size": 32},
    "fused attention": {"model_init_kwargs": {"attn_implementation": "sdpa"}},
    ONE_THREAD: {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--round", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=[name for name in WAYS if name != COMPILED])
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    files, _ = rows_of(asked.run, asked.round)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in dict.fromkeys((AS_IT_IS, *asked.ways))}
    for _ in range(asked.repeats):
        for name, each in found.items():
            each.append(_taken(files, asked, name, WAYS[name]))
            print(name, each[-1], flush=True)
    plain = found[AS_IT_IS]
    figures = {
        name: {
            "steps, ratio": _ratio(each, plain),
            "loss": round(median(one["loss"] for one in each), 3),
            "runs": each,
        }
        for name, each in found.items()
    }
    ways = " ".join(f"'{name}'" for name in found)
    command = f"python -m benchmarks.tried --run RUN --work WORK --round {asked.round} --repeats {asked.repeats}"
    keep("tried", f"{command} --ways {ways}", figures)


def _taken(files: list[Path], asked: argparse.Namespace, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    if name != ONE_THREAD:
        return ours(files, asked, "lora", **settings)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        return ours(files, asked, "lora", **settings)
    finally:
        del os.environ["OMP_NUM_THREADS"]


def _ratio(each: list[dict[str, Any]], plain: list[dict[str, Any]]) -> float:
    pairs = zip(each, plain, strict=True)
    return round(median(float(one["steps_seconds"]) / float(other["steps_seconds"]) for one, other in pairs), 2)


if __name__ == "__main__":
    main()
