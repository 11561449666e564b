"""Training beside TRL's defaults on the same rows: loss tokens a second, and the loss.

python -m benchmarks.training --loop FOLDER --run RUN --work WORK [--round 3] [--repeats 3]

FOLDER has the plain loop's train.py (LoRA in bfloat16 with TRL's trainer as it comes, two epochs). RUN is a finished
run on SmolLM2-135M, whose rows of a round both sides train on: as text there, as stored here. Each side is a whole
training from its base to its merged model, without Python's imports; steps alone stand beside it. The sides take turns;
full fine-tuning is ours alone. The peak is that of large matrix products in bfloat16, measured beside it.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.paired import keep
from selftrain.backends import models
from selftrain.backends.rows import columns
from selftrain.backends.trainer import TrlTrainer
from selftrain.lab import TrainJob
from selftrain.records import Problem, Row, Sample
from selftrain.round import PROBLEMS
from selftrain.store import Store
from selftrain.templates import Protocol

EPOCHS = 2
PARAMETERS = 106_000_000
"""Of the model's matrices, without the table of its vocabulary."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--round", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    files, texts = rows_of(asked.run, asked.round)
    stored = columns(files)
    lossy = EPOCHS * sum(label != -100 for labels in stored["labels"] for label in labels)
    whole = EPOCHS * sum(map(len, stored["input_ids"]))
    found: dict[str, list[dict[str, Any]]] = {"plain loop": [], "selftrain": [], "selftrain, full": []}
    for _ in range(asked.repeats):
        found["plain loop"].append(plain(texts, asked))
        found["selftrain"].append(ours(files, asked, "lora"))
        found["selftrain, full"].append(ours(files, asked, "full"))
        print({side: each[-1] for side, each in found.items()}, flush=True)
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(found["plain loop"], found["selftrain"], strict=True)]
    best = peak()
    seconds = median(each["steps_seconds"] for each in found["selftrain"])
    command = (
        "python -m benchmarks.training --loop FOLDER --run RUN --work WORK"
        f" --round {asked.round} --repeats {asked.repeats}"
    )
    figures = {
        "rows": len(stored["id"]), "epochs": EPOCHS, "loss tokens": lossy, "tokens": whole, "sides": found,
        "loss tokens a second": {
            side: round(lossy / median(each["seconds"] for each in taken), 1) for side, taken in found.items()
        },
        "ratio of times, LoRA": round(median(ratios), 2),
        "GFLOPS of the rows as they are (4 x parameters x tokens)": round(4 * PARAMETERS * whole / seconds / 1e9),
        "GFLOPS of matrix products, bfloat16": round(best),
    }  # fmt: skip
    keep("training", command, figures)


def rows_of(root: Path, round: int) -> tuple[list[Path], list[dict[str, Any]]]:
    """Return a round's rows as files, and as the messages that the loop trains on."""
    store = Store(root)
    stages = store.stages(round)
    problems: dict[str, Problem] = {}
    given = store.stage(0, 0, PROBLEMS)
    for shard in given.shards():
        problems |= {each.id: each for each in given.read(Problem, shard)}
    samples: dict[str, Sample] = {}
    for shard in stages["generate"].shards():
        samples |= {each.id: each for each in stages["generate"].read(Sample, shard)}
    protocol = Protocol(suffix=" Think step by step, then finish with the final answer.")
    texts = []
    for shard in stages["build"].shards():
        for row in stages["build"].read(Row, shard):
            sample = samples[row.sources[0]]
            prompt = [dict(each) for each in protocol.messages(problems[sample.problem])]
            texts.append({"prompt": prompt, "completion": [{"role": "assistant", "content": sample.text}]})
    return stages["build"].files(Row), texts


def plain(texts: list[dict[str, Any]], asked: argparse.Namespace) -> dict[str, Any]:
    """Train as the loop does."""
    rows, out = asked.work / "rows.json", asked.work / "loop-model"
    rows.write_text(json.dumps(texts))
    command = [sys.executable, str(asked.loop / "train.py"), str(models.resolve("smollm2-135m")), str(rows), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout + done.stderr
    told = re.search(r"TRAIN .* seconds=(\d+)", said)
    runtime = re.search(r"'train_runtime': '?([\d.]+)", said)
    loss = re.search(r"'train_loss': '?([\d.]+)", said)
    assert told is not None, said
    steps = {"steps_seconds": float(runtime[1])} if runtime else {}
    return {"seconds": float(told[1]), **steps, **({"loss": float(loss[1])} if loss else {})}


def ours(files: list[Path], asked: argparse.Namespace, adapter: str, **more: Any) -> dict[str, Any]:
    """Train as a run does: a child of the process that has torch imported, from checkpoint to checkpoint."""
    start, out = next((asked.run / "round-00").rglob("checkpoint.json")).parent, asked.work / f"ours-{adapter}"
    shutil.rmtree(out, ignore_errors=True)
    trainer = TrlTrainer(log=asked.work / "trainer.log")
    settings: dict[str, Any] = {"num_train_epochs": EPOCHS, **more}
    begun = time.monotonic()
    try:
        job = TrainJob(rows=tuple(files), start=start, out=out, adapter=adapter, settings=settings, seed=1)
        made = trainer.train(job, lambda steps: None)
        seconds = time.monotonic() - begun
    finally:
        trainer.close()
    runtime = re.findall(r"'train_runtime': '?([\d.]+)", (asked.work / "trainer.log").read_text())
    loss = sum(made.loss) / len(made.loss)
    return {"seconds": seconds, "steps_seconds": float(runtime[-1]), "steps": made.steps, "loss": loss}


def peak() -> float:
    """Return the GFLOPS of large matrix products in bfloat16."""
    import torch

    one = torch.randn(2048, 2048).to(torch.bfloat16)
    one @ one
    taken = []
    for _ in range(10):
        begun = time.monotonic()
        one @ one
        taken.append(time.monotonic() - begun)
    return 2 * 2048**3 / median(taken) / 1e9


if __name__ == "__main__":
    main()
