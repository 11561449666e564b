"""Tokens a second: sampling with verification and storing in a run, beside a bare `LLM.generate` on the same prompts.

python -m benchmarks.sampling --work WORK [--problems 150] [--samples 8] [--repeats 3]

Both sides sample SmolLM2-135M on the same sums, in one process and on CPU eager, which is several times quicker there
than vLLM's defaults; all else of the bare side is as it comes. Neither side's time holds the start of the engine. The
sides take turns.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import selftrain
from benchmarks.paired import keep, problems
from selftrain.backends import models

LONGEST = 96
BARE = """
import json, sys, time, torch
from vllm import LLM, SamplingParams
asked = json.load(sys.stdin)
eager = not torch.cuda.is_available()
llm = LLM(model=asked["model"], dtype="bfloat16", max_model_len=512, enforce_eager=eager, seed=1)
params = SamplingParams(temperature=1.0, n=asked["samples"], max_tokens=asked["longest"])
# The first requests make what is made once.
llm.generate(asked["prompts"][:2], params, use_tqdm=False)
begun = time.monotonic()
found = llm.generate(asked["prompts"], params, use_tqdm=False)
seconds = time.monotonic() - begun
tokens = sum(len(each.token_ids) for output in found for each in output.outputs)
print("BARE", json.dumps({"seconds": seconds, "tokens": tokens}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=150)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    for number in range(asked.repeats):
        root, found = in_a_run(number, asked)
        sides["ours"].append(found)
        sides["bare"].append(bare(root, asked))
        print(sides["ours"][-1], sides["bare"][-1], flush=True)
    rates = {side: [each["tokens"] / each["seconds"] for each in found] for side, found in sides.items()}
    ratio = median(a / b for a, b in zip(rates["ours"], rates["bare"], strict=True))
    command = (
        f"python -m benchmarks.sampling --work WORK --problems {asked.problems} --samples {asked.samples}"
        f" --repeats {asked.repeats}"
    )
    figures = {
        "tokens a second": {side: [round(each) for each in found] for side, found in rates.items()},
        "ratio": round(ratio, 2),
    }  # fmt: skip
    keep("sampling", command, figures)


def in_a_run(number: int, asked: argparse.Namespace) -> tuple[Path, dict[str, float]]:
    """Sample and judge in a run's first round; return the run's folder and what the stage took."""
    root = asked.work / f"run-{number}"
    shutil.rmtree(root, ignore_errors=True)
    sizes: dict[str, Any] = {"pool": asked.problems, "draw": asked.problems, "valid": 8, "test": 8, "rounds": 1}
    selftrain.run(
        "rest_em", preset="demo", out=str(root), seed=number, samples=asked.samples, max_steps=1, temperature=1.0,
        max_new_tokens=LONGEST, **sizes,
    )  # fmt: skip
    events = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    stages = [each for each in events if each["round"] == 1 and each["stage"] in ("generate", "verify", "select")]
    return root, {"seconds": sum(e["wall_seconds"] for e in stages), "tokens": sum(e.get("tokens", 0) for e in stages)}


def bare(root: Path, asked: argparse.Namespace) -> dict[str, float]:
    """Sample the run's problems with vLLM alone."""
    from transformers import AutoTokenizer

    model = models.resolve("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(model)
    suffix = " Think step by step, then finish with the final answer."
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": each.text + suffix}], add_generation_prompt=True, tokenize=False
        )
        for each in problems(root)
        if each.split == "train"
    ]
    given = {"model": str(model), "samples": asked.samples, "longest": LONGEST, "prompts": prompts}
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2"}
    time.sleep(2.0)
    done = subprocess.run(
        [sys.executable, "-c", BARE], input=json.dumps(given), capture_output=True, text=True, check=True,
        env={**environment, "VLLM_LOGGING_LEVEL": "ERROR"},
    )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("BARE"))
    found: dict[str, float] = json.loads(line.removeprefix("BARE"))
    return found


if __name__ == "__main__":
    main()
