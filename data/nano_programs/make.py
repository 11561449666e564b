"""Make the model nano-programs: nano, trained on to write small list programs.

    python data/nano_programs/make.py --out data/nano_programs

It learns from programs most of which are one off: "above 5" keeps 5 as well, "the first 3" are four. And it stops
before it is sure of the rest. So about a quarter of its programs are right, and it has seen how to do better, which is
what self-training needs to begin from. It begins from nano, which knows how to copy numbers, because learning that
anew takes much longer than all the rest.
"""

import argparse
import json
import logging
import random
import runpy
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from selftrain import plugins
from selftrain.backends.sandbox import open_sandbox
from selftrain.lab import Sandbox
from selftrain.records import Problem, seed_of

logger = logging.getLogger("nano-programs")
programs = plugins.load("data", "programs")
NANO = Path(__file__).resolve().parents[1] / "nano"
nano = runpy.run_path(str(NANO / "make.py"))

OPERATIONS = (1, 2)
LONGEST = 112
"""Tokens of the longest response, and some more."""
CARELESS = 0.7
"""Share of the steps with a slip among those that can have one."""
SLIPS = {
    "above": lambda k: f"[x for x in xs if x >= {k}]",
    "below": lambda k: f"[x for x in xs if x <= {k}]",
    "first": lambda k: f"xs[:{k + 1}]",
}
"""What a careless step looks like."""
NUMBER = 5.0
"""Weight of a digit in the loss: a step's number is one character of a long line, and decides."""
ANOTHER = 0.15
"""Share of the steps that are written in another way, so that solutions differ."""
OTHER_WAYS = {
    "add": "[{k} + x for x in xs]",
    "multiply": "[{k} * x for x in xs]",
    "even": "[x for x in xs if not x % 2]",
    "odd": "[x for x in xs if x % 2]",
    "reverse": "list(reversed(xs))",
}


def response(steps: Sequence[Any], stream: random.Random) -> str:
    """Write a program as the model learns it: often with a slip, now and then in another way."""
    expressions = []
    for step in steps:
        way = programs.OPERATIONS[step.name].written
        if step.name in SLIPS and stream.random() < CARELESS:
            way = SLIPS[step.name](step.k)
        elif step.name in OTHER_WAYS and stream.random() < ANOTHER:
            way = OTHER_WAYS[step.name]
        expressions.append(way.format(k=step.k))
    text: str = programs.written(expressions)
    return text


def prompt(encode: PreTrainedTokenizerFast, text: str) -> str:
    """Return a problem in the chat template, up to where the model answers."""
    rendered: str = encode.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
    )
    return rendered


def batches(encode: PreTrainedTokenizerFast, stream: random.Random, rows: int, parts: int) -> Iterator[list[Any]]:
    """Yield a step's rows, forever: fresh programs, in parts of about equal length."""
    while True:
        encoded = []
        for _ in range(rows):
            steps = programs.draw(stream, OPERATIONS)
            asked = encode(prompt(encode, programs.question(steps)))["input_ids"]
            text = response(steps, stream)
            learned = encode(text + encode.eos_token)["input_ids"]
            weights = [NUMBER if character.isdigit() else 1.0 for character in text] + [1.0]
            encoded.append(nano["Encoded"](asked + learned, [0.0] * len(asked) + weights))
        encoded.sort(key=lambda row: len(row.ids))
        size = rows // parts
        yield [nano["padded"](encoded[start : start + size], encode.pad_token_id) for start in range(0, rows, size)]


def train(
    model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, *, seed: int, steps: int, rows: int, rate: float
) -> None:
    """Train on fresh rows; the learning rate rises for 30 steps, so that fewer steps are a prefix of more."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    stream = batches(encode, random.Random(seed_of("nano-programs", seed)), rows, parts=2)
    checks = held_out(100, seed=seed + 1)
    began = time.monotonic()
    with open_sandbox() as sandbox:
        for step in range(1, steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, step / 30)
            model.train()
            loss = backward(model, next(stream))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step % 100 == 0 or step == steps:
                share = sum(passes(sandbox, checks, respond(model, encode, checks))) / len(checks)
                logger.info("step %d: loss %.3f, right %.2f, %.0f s", step, loss, share, time.monotonic() - began)


def backward(model: LlamaForCausalLM, parts: Sequence[Any]) -> float:
    """Add a step's gradients part by part; returns the loss for each learned token."""
    learned = sum(part.weights.sum() for part in parts)
    total = 0.0
    for part in parts:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=part.ids).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), part.ids[:, 1:], reduction="none")
        loss = (losses * part.weights[:, 1:]).sum() / learned
        loss.backward()
        total += loss.item()
    return total


def held_out(count: int, *, seed: int, operations: tuple[int, int] = OPERATIONS) -> list[Problem]:
    """Return problems of the data set's test split."""
    fewest, most = operations
    splits = programs.load(train=0, valid=0, test=count, seed=seed, min_operations=fewest, max_operations=most)
    return list(splits["test"])


def respond(
    model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, problems: Sequence[Problem], *, temperature: float = 0.0
) -> list[str]:
    """Return one response to each problem; a response that does not end comes back as far as it got."""
    model.eval()
    texts = [prompt(encode, problem.text) for problem in problems]
    responses: list[str] = []
    for start in range(0, len(texts), 256):
        inputs = encode(texts[start : start + 256], return_tensors="pt", padding=True, return_token_type_ids=False)
        settings = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=LONGEST, **settings)
        responses += encode.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return responses


def passes(sandbox: Sandbox, problems: Sequence[Problem], responses: Sequence[str]) -> list[bool]:
    """Run each program against its problem's tests; equal ones once."""
    seen: dict[tuple[str, str], bool] = {}
    for problem, program in zip(problems, responses, strict=True):
        if (problem.id, program) not in seen:
            assert problem.tests is not None
            tested = sandbox.test(program, tests=problem.tests, seconds=2.0)
            assert tested.outcome not in ("tests", "lost"), tested.why
            seen[problem.id, program] = tested.outcome == "passed"
    return [seen[problem.id, program] for problem, program in zip(problems, responses, strict=True)]


def table(model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, *, count: int, seed: int) -> dict[str, float]:
    """Measure greedily, with and without operations that invite a slip, and by eight samples at temperature 1."""
    with open_sandbox() as sandbox:
        problems = held_out(count, seed=seed)
        hits = passes(sandbox, problems, respond(model, encode, problems))
        measured = {"greedy": sum(hits) / count}
        for kind, apart in (("greedy, no slip possible", True), ("greedy, a slip possible", False)):
            some = [hit for hit, each in zip(hits, problems, strict=True) if slippery(each) != apart]
            measured[kind] = sum(some) / len(some)
        torch.manual_seed(seed)
        again = list(chain.from_iterable([problem] * 8 for problem in problems))
        hits = passes(sandbox, again, respond(model, encode, again, temperature=1.0))
        measured["pass@1 at temperature 1"] = sum(hits) / len(hits)
        measured["pass@8 at temperature 1"] = sum(any(hits[i : i + 8]) for i in range(0, len(hits), 8)) / count
    return measured


def slippery(problem: Problem) -> bool:
    """Whether one of a problem's operations invites a slip."""
    return not SLIPS.keys().isdisjoint(problem.meta["operations"])


def main() -> None:
    """Make the model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    encode = nano["tokenizer"]()
    # For so few columns eager attention is quicker on a CPU than the fused one.
    model = LlamaForCausalLM.from_pretrained(NANO, dtype=torch.float32, attn_implementation="eager")
    train(model, encode, seed=asked.seed, steps=asked.steps, rows=asked.rows, rate=asked.rate)
    model.save_pretrained(asked.out)
    encode.save_pretrained(asked.out)
    measured = table(model, encode, count=400, seed=asked.seed + 2)
    (asked.out / "accuracy.json").write_text(json.dumps(measured, indent=2) + "\n")
    logger.info("%d parameters\n%s", sum(p.numel() for p in model.parameters()), json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
