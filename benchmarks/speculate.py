"""What sampling the next round in one batch with measuring this one would save: seconds apart and together.

python -m benchmarks.speculate --run RUN [--round 1] [--draw 150] [--samples 8] [--repeats 3]

RUN is a finished run on vLLM. The model of a round answers the run's held-out problems greedily and its training
problems so many times at temperature 1, first the one and then the other, then both in one queue, the held-out
problems ahead. The sides take turns.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.paired import keep, problems
from selftrain.backends import checkpoints
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.vllm import VllmSampler
from selftrain.lab import Request, Sampling

LONGEST = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--draw", type=int, default=150)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    checkpoint = next((asked.run / f"round-{asked.round:02d}").glob("*-train/checkpoint"))
    held_out, train = requests(asked, Tokenizer(checkpoints.serve_of(checkpoint)))
    apart: list[float] = []
    together: list[float] = []
    tokens: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        sampler = VllmSampler(checkpoint, log=Path(folder) / "engine.log")
        try:
            taken(sampler, [train[:8]], seed=0)
            for number in range(1, asked.repeats + 1):
                sides = [(apart, [held_out, train]), (together, [[*held_out, *train]])]
                for seconds, queues in sides if number % 2 else reversed(sides):
                    found, count = taken(sampler, queues, seed=number)
                    seconds.append(found)
                    tokens.append(count)
        finally:
            sampler.close()
    command = f"python -m benchmarks.speculate --run RUN --round {asked.round} --samples {asked.samples}"
    figures = {
        "held out": len(held_out), "samples": len(train), "tokens": tokens,
        "seconds apart": [round(each, 1) for each in apart], "together": [round(each, 1) for each in together],
        "ratio": round(median(one / both for one, both in zip(apart, together, strict=True)), 3),
    }  # fmt: skip
    keep("speculate", f"{command} --repeats {asked.repeats}", figures)


def requests(asked: argparse.Namespace, tokens: Tokenizer) -> tuple[list[Request], list[Request]]:
    """Requests of a measurement, and of a round's sampling."""
    found = problems(asked.run)
    rendered = {
        each.id: tokens.render([{"role": "user", "content": f"{each.text} Think step by step."}]) for each in found
    }
    greedy, hot = (Sampling(temperature=heat, max_tokens=LONGEST) for heat in (0.0, 1.0))
    held_out = [
        Request(id=each.id, prompt_ids=rendered[each.id], sampling=greedy) for each in found if each.split != "train"
    ]
    train = [
        Request(id=f"{each.id}-{number}", prompt_ids=rendered[each.id], sampling=hot)
        for each in [each for each in found if each.split == "train"][: asked.draw]
        for number in range(asked.samples)
    ]
    return held_out, train


def taken(sampler: VllmSampler, queues: list[list[Request]], *, seed: int) -> tuple[float, int]:
    """Seconds and tokens of one queue after the other."""
    begun = time.monotonic()
    count = sum(len(each.ids) for queue in queues for each in sampler.sample(queue, seed=seed))
    return time.monotonic() - begun, count


if __name__ == "__main__":
    main()
