"""Tokens a second of the bundled model nano: the transformers sampler by batch and threads, beside vLLM.

python -m benchmarks.nano --work WORK [--problems 256] [--samples 8] [--batches 256 512 1024] [--repeats 3]

Each sampler answers the same requests: sums of two or three numbers at temperature 1, as a run's Generate sends them,
in one job. vLLM runs with its settings for a run. The sides take turns; no time holds the start of an engine.
"""

import argparse
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.paired import keep
from selftrain import plugins
from selftrain.backends import checkpoints, models
from selftrain.backends.engine_sampler import EngineSampler
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.transformers_sampler import TransformersSampler
from selftrain.backends.vllm import VllmSampler
from selftrain.lab import Request, Sampling
from selftrain.loop.plan import cores

LONGEST = 64
"""New tokens at most, as in the preset nano."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    shutil.rmtree(asked.work, ignore_errors=True)
    asked.work.mkdir(parents=True)
    checkpoints.prepare(models.resolve("nano"), asked.work / "base")
    ways: dict[str, dict[str, Any] | None] = {
        f"transformers, batches of {batch}, threads: {threads}": {"concurrency": batch, "threads": threads}
        for batch in asked.batches
        for threads in sorted({1, cores()})
    }
    ways["vllm"] = None
    found: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(asked.repeats):
        for way, settings in ways.items():
            found[way].append(rate(settings, repeat, asked))
            print(f"{way}: {found[way][-1]:,.0f} tokens/s", flush=True)
    batches = " ".join(map(str, asked.batches))
    command = (
        f"python -m benchmarks.nano --work WORK --problems {asked.problems} --samples {asked.samples}"
        f" --batches {batches} --repeats {asked.repeats}"
    )
    figures = {
        way: {"tokens a second": [round(each) for each in rates], "median": round(median(rates))}
        for way, rates in found.items()
    }
    keep("nano", command, {"ways": figures})


def rate(settings: dict[str, Any] | None, seed: int, asked: argparse.Namespace) -> float:
    """Start an engine, let it answer a few requests, then return the tokens a second of all of them."""
    base, log = asked.work / "base", asked.work / "engine.log"
    sampler: EngineSampler
    if settings is None:
        sampler = VllmSampler(base, log=log, seed=seed)
    else:
        sampler = TransformersSampler(base, log=log, settings=settings)
    try:
        given = requests(base, asked)
        # The first requests make what is made once.
        list(sampler.sample(given[:8], seed=seed))
        begun = time.monotonic()
        tokens = sum(len(each.ids) for each in sampler.sample(given, seed=seed))
        return tokens / (time.monotonic() - begun)
    finally:
        sampler.close()


def requests(base: Path, asked: argparse.Namespace) -> list[Request]:
    """Return the requests: `samples` of each problem."""
    tokens = Tokenizer(checkpoints.serve_of(base))
    problems = plugins.load("data", "sums").load(train=asked.problems, valid=0, test=0)["train"]
    prompts = [tokens.render([{"role": "user", "content": each.text}]) for each in problems]
    sampling = Sampling(temperature=1.0, max_tokens=LONGEST)
    return [
        Request(id=f"{number}-{index}", prompt_ids=prompt, sampling=sampling)
        for number, prompt in enumerate(prompts)
        for index in range(asked.samples)
    ]


if __name__ == "__main__":
    main()
