"""Make the model nano-tasks: nano, trained on to do five more tasks, each at partial ability, and more formats.

    python data/nano_tasks/make.py --out data/nano_tasks

As in nano, most of the direct responses that it learns from have a slip, one for each task (`talks.py`): so about a
third of its responses are right, and it has seen how to do better, which is what self-training needs to begin from. It
begins from nano, which knows how to copy and to add.
"""

import argparse
import json
import logging
import random
import runpy
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from selftrain.problems import load_problems
from selftrain.records import seed_of

logger = logging.getLogger("nano-tasks")
HERE = Path(__file__).resolve().parent
talks = runpy.run_path(str(HERE / "talks.py"))
nano = talks["nano"]
programs = runpy.run_path(str(HERE.parent / "nano_programs" / "make.py"))
Talk = Any
"""`talks.py`'s."""

RATE = 3e-3
LONGEST = 112
"""Tokens of the longest response, and some more."""


def batches(encode: PreTrainedTokenizerFast, stream: random.Random, rows: int, parts: int) -> Iterator[list[Any]]:
    """Yield a step's rows, forever: a fresh mix of tasks and formats, in parts of about equal length."""
    while True:
        encoded = [weighed(encode, talks["drawn"](stream)) for _ in range(rows)]
        encoded.sort(key=lambda row: len(row.ids))
        size = rows // parts
        yield [nano["padded"](encoded[start : start + size], encode.pad_token_id) for start in range(0, rows, size)]


def weighed(encode: PreTrainedTokenizerFast, talk: Talk) -> Any:
    """Encode a talk, with what its tokens count."""
    asked = encode(asked_for(encode, talk))["input_ids"]
    learned = encode(talk.response + encode.eos_token)["input_ids"]
    return nano["Encoded"](asked + learned, [0.0] * len(asked) + [talk.weight] * len(learned))


def asked_for(encode: PreTrainedTokenizerFast, talk: Talk) -> str:
    """Return a talk in the chat template, up to where the model goes on."""
    text: str = encode.apply_chat_template(talk.prompt, add_generation_prompt=True, tokenize=False)
    return text + str(talk.given)


def train(model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, *, seed: int, steps: int, rows: int) -> None:
    """Train on fresh rows; the learning rate rises for 30 steps and falls to nothing in the last third."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    stream = batches(encode, random.Random(seed_of("nano-tasks", seed)), rows, 4)
    checks = {name: evaluation(name, "direct", 50, seed=seed + 1) for name in talks["TASKS"]}
    for step, parts in enumerate(islice(stream, steps), 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, step / 30, 0.03 + 3 * (steps - step) / steps)
        model.train()
        loss = programs["backward"](model, parts)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 250 == 0 or step == steps:
            shares = " ".join(f"{name} {accuracy(model, encode, check):.2f}" for name, check in checks.items())
            logger.info("step %d: loss %.3f, %s, %.0f s", step, loss, shares, time.process_time())


def evaluation(name: str, form: str, count: int, *, seed: int) -> list[Talk]:
    """Return talks in this format: direct ones of the data set's test split, others drawn anew."""
    if form == "direct":
        task = talks["TASKS"][name]
        problems = load_problems(task.data, train=0, valid=0, test=count, seed=seed).test
        return [talks["Talk"]([nano["user"](each.text)], "", problem=each) for each in problems]
    task, stream = talks["TASKS"][name], random.Random(seed_of("nano-tasks", name, form, seed))
    return [talks["FORMATS"][form][0](task, task.draw(stream), stream) for _ in range(count)]


def respond(
    model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, asked: Sequence[Talk], *, temperature: float = 0.0
) -> list[str]:
    """Return one response to each talk; a response that does not end comes back as far as it got."""
    model.eval()
    texts = [asked_for(encode, talk) for talk in asked]
    responses: list[str] = []
    for start in range(0, len(texts), 256):
        inputs = encode(texts[start : start + 256], return_tensors="pt", padding=True, return_token_type_ids=False)
        settings = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=LONGEST, **settings)
        responses += encode.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return responses


def accuracy(
    model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, asked: Sequence[Talk], *, temperature: float = 0.0
) -> float:
    """Return the share of right responses."""
    hits: list[bool] = list(map(talks["right"], asked, respond(model, encode, asked, temperature=temperature)))
    return sum(hits) / len(hits)


def table(model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, *, count: int, seed: int) -> dict[str, float]:
    """Measure each task greedily and by eight samples, each format of each task, and nano's formats of sums."""
    measured: dict[str, float] = {}
    for name, task in talks["TASKS"].items():
        for form in task.formats:
            asked = evaluation(name, form, count if form == "direct" else count // 2, seed=seed)
            measured[f"{name}, {form}"] = accuracy(model, encode, asked)
        torch.manual_seed(seed)
        again = [talk for talk in evaluation(name, "direct", count // 4, seed=seed) for _ in range(8)]
        hits: list[bool] = list(map(talks["right"], again, respond(model, encode, again, temperature=1.0)))
        measured[f"{name}, pass@1 at temperature 1"] = sum(hits) / len(hits)
        solved = [any(hits[at : at + 8]) for at in range(0, len(hits), 8)]
        measured[f"{name}, pass@8 at temperature 1"] = sum(solved) / len(solved)
    for form in nano["FORMATS"]:
        if form != "direct":
            asked = nano["evaluation"](form, count // 2, seed=seed)
            measured[f"sums, {form}"] = nano["accuracy"](model, encode, asked)
    return measured


def main() -> None:
    """Make the model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2350)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    encode = nano["tokenizer"]()
    # For so few columns eager attention is quicker on a CPU than the fused one.
    model = LlamaForCausalLM.from_pretrained(HERE.parent / "nano", dtype=torch.float32, attn_implementation="eager")
    train(model, encode, seed=asked.seed, steps=asked.steps, rows=asked.rows)
    model.save_pretrained(asked.out)
    nano["tokenizer"]().save_pretrained(asked.out)  # as it is before padding is set in it
    measured = table(model, encode, count=200, seed=asked.seed + 2)
    (asked.out / "accuracy.json").write_text(json.dumps(measured, indent=2) + "\n")
    logger.info("%.0f s of processor\n%s", time.process_time(), json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
