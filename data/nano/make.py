"""Make the nano model: a character-level Llama that does sums with written steps, trained from nothing in minutes.

    python data/nano/make.py --out data/nano

It learns from solutions most of which forget the carry, and it stops before it is sure of the rest: so about a third
of its sums are right, and it has seen how to do better, which is what self-training needs to begin from. With a hint,
with examples, or told of a mistake, it learns to do it right.
"""

import argparse
import json
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from selftrain import plugins
from selftrain.records import Message, Problem, seed_of

logger = logging.getLogger("nano")
sums = plugins.load("data", "sums")

CONTEXT = 512
SPECIAL = ("<pad>", "<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('roles are system, user and assistant, not ' + message.role) }}"
    "{% endif %}"
    "{{ '<|' + message.role + '|>' }}"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + '<|end|>' }}{% endgeneration %}"
    "{% else %}"
    "{{ message.content + '<|end|>' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

CARELESS = 0.7
"""Share of the direct solutions that forget the carry."""
IN_WORDS = 5.0
"""Weight in the loss of a response that is no solution."""

HINT = "\n(The answer is {answer}.)"
WRONG = "That is wrong. Try again."
WRONG_STEP = "Step {step} is wrong. Try again."
CHECK = "Check it and try again."
VERDICT = "Is this right? Answer yes or no."
CRITIQUE = "Which step is wrong first?"
NAMED = "Step {step} is wrong."
NONE_WRONG = "No step is wrong."


class Talk(NamedTuple):
    """A prompt in one of the formats and the response that is learned."""

    prompt: list[Message]
    response: str
    answer: str
    """What a response must say last to be right."""


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, and the special tokens; nothing is added or lost in decoding."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *CHARACTERS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|end|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="left",
    )


def user(text: str) -> Message:
    """A turn of the user."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """A turn of the model."""
    return {"role": "assistant", "content": text}


def question(terms: Sequence[int]) -> str:
    """The problem as it is asked."""
    text: str = sums.problem(terms).text
    return text


def shuffled(lines: Sequence[str], stream: random.Random) -> str:
    """Join a solution's steps; now and then a column's digits stand in another order, so that solutions differ."""
    steps = []
    for line in lines:
        left, equals, right = line.partition("=")
        digits = left.split("+")
        if equals and stream.random() < 0.15:
            stream.shuffle(digits)
        steps.append("+".join(digits) + equals + right)
    return "\n".join(steps)


def careless(terms: Sequence[int]) -> list[str]:
    """Return steps that forget the carry of every column."""
    lines, written, unit = [], "", 1
    while unit <= max(terms):
        column = [term // unit % 10 for term in terms if term >= unit]
        lines.append(f"{'+'.join(map(str, column))}={sum(column)}")
        written, unit = f"{sum(column) % 10}{written}", unit * 10
    return [*lines, f"#### {sum(column) // 10 or ''}{written}"]


def spoiled(terms: Sequence[int], stream: random.Random) -> tuple[list[str], int]:
    """Return steps with one mistake, and its line: a wrong sum, digit, carry or answer; later lines follow from it."""
    wrong = stream.randint(1, len(sums.steps(terms)))
    lines: list[str] = []
    written, carry, unit = "", 0, 1
    while unit <= max(terms):
        column = [term // unit % 10 for term in terms if term >= unit] + [carry] * (carry > 0)
        total = sum(column)
        if len(lines) + 1 == wrong:
            kind = stream.choice(("carry", "carry", "sum", "digit") if carry else ("sum", "digit"))
            if kind == "sum":
                total = max(0, total + stream.choice((-10, -2, -1, 1, 2, 10))) if total else 1
            elif kind == "digit":
                place = stream.randrange(len(column))
                column[place] = (column[place] + stream.randint(1, 9)) % 10
                total = sum(column)
            else:
                column, total = column[:-1], total - carry
        lines.append(f"{'+'.join(map(str, column))}={total}")
        written, carry, unit = f"{total % 10}{written}", total // 10, unit * 10
    answer = f"{carry or ''}{written}"
    if len(lines) + 1 == wrong:
        place = stream.randrange(len(answer))
        answer = answer[:place] + str((int(answer[place]) + stream.randint(1, 9)) % 10) + answer[place + 1 :]
    return [*lines, f"#### {answer}"], wrong


def direct(terms: Sequence[int], stream: random.Random) -> Talk:
    """The problem alone; the solution often forgets the carry."""
    lines = careless(terms) if stream.random() < CARELESS else sums.steps(terms)
    return Talk([user(question(terms))], shuffled(lines, stream), str(sum(terms)))


def hinted(terms: Sequence[int], stream: random.Random) -> Talk:
    """The problem with its answer."""
    hint = HINT.format(answer=sum(terms))
    return Talk([user(question(terms) + hint)], shuffled(sums.steps(terms), stream), str(sum(terms)))


def few_shot(terms: Sequence[int], stream: random.Random) -> Talk:
    """One or two solved problems before the problem."""
    turns: list[Message] = []
    for _ in range(stream.randint(1, 2)):
        other = sums.draw(stream, (2, 3), (1, 2))
        turns += [user(question(other)), assistant(shuffled(sums.steps(other), stream))]
    return Talk([*turns, user(question(terms))], shuffled(sums.steps(terms), stream), str(sum(terms)))


def attempted(terms: Sequence[int], stream: random.Random, right: float) -> tuple[list[Message], int]:
    """Return a problem with an attempt, right in this share of cases, and the attempt's first wrong step or 0."""
    lines, wrong = (sums.steps(terms), 0) if stream.random() < right else spoiled(terms, stream)
    return [user(question(terms)), assistant(shuffled(lines, stream))], wrong


def revise(terms: Sequence[int], stream: random.Random) -> Talk:
    """An attempt and what is said of it; the response is the corrected solution."""
    told = stream.random() < 0.7
    turns, wrong = attempted(terms, stream, 0.0 if told else 0.5)
    feedback = stream.choice((WRONG, WRONG_STEP.format(step=wrong))) if told else CHECK
    return Talk([*turns, user(feedback)], shuffled(sums.steps(terms), stream), str(sum(terms)))


def verdict(terms: Sequence[int], stream: random.Random) -> Talk:
    """Whether an attempt is right."""
    turns, wrong = attempted(terms, stream, 0.5)
    said = "no" if wrong else "yes"
    return Talk([*turns, user(VERDICT)], said, said)


def critique(terms: Sequence[int], stream: random.Random) -> Talk:
    """Which step of an attempt is wrong first."""
    turns, wrong = attempted(terms, stream, 0.3)
    said = NAMED.format(step=wrong) if wrong else NONE_WRONG
    return Talk([*turns, user(CRITIQUE)], said, said)


Format = Callable[[Sequence[int], random.Random], Talk]
FORMATS: dict[str, tuple[Format, float]] = {
    "direct": (direct, 0.42),
    "hinted": (hinted, 0.22),
    "few-shot": (few_shot, 0.07),
    "revise": (revise, 0.10),
    "verdict": (verdict, 0.10),
    "critique": (critique, 0.09),
}


def right(talk: Talk, response: str) -> bool:
    """Whether a response is right: by its last number, or by its words where the answer is no number."""
    if not talk.answer.isdigit():
        return response == talk.answer
    numbers = re.findall(r"\d+", response)
    return bool(numbers) and numbers[-1] == talk.answer


class Encoded(NamedTuple):
    """A row's ids, and how much each counts in the loss: 0 where nothing is learned."""

    ids: list[int]
    weights: list[float]


class Batch(NamedTuple):
    """Rows filled up to one length."""

    ids: Any
    weights: Any


def batches(encode: PreTrainedTokenizerFast, stream: random.Random, rows: int, parts: int) -> Iterator[list[Batch]]:
    """Yield a step's rows, forever: a fresh mix of the formats, in parts of about equal length."""
    makers = [maker for maker, _ in FORMATS.values()]
    shares = [share for _, share in FORMATS.values()]
    while True:
        talks = [maker(sums.draw(stream, (2, 3), (1, 2)), stream) for maker in stream.choices(makers, shares, k=rows)]
        encoded = sorted((weighed(encode, talk) for talk in talks), key=lambda row: len(row.ids))
        size = rows // parts
        yield [padded(encoded[start : start + size], encode.pad_token_id) for start in range(0, rows, size)]


def weighed(encode: PreTrainedTokenizerFast, talk: Talk) -> Encoded:
    """Encode a talk; a response in words counts more, because only one of its tokens says anything."""
    prompt = encode.apply_chat_template(talk.prompt, add_generation_prompt=True, return_dict=False)
    response = encode(talk.response + "<|end|>")["input_ids"]
    weight = 1.0 if talk.answer.isdigit() else IN_WORDS
    return Encoded(prompt + response, [0.0] * len(prompt) + [weight] * len(response))


def padded(rows: Sequence[Encoded], pad: int) -> Batch:
    """Stack rows, filled up at the right."""
    longest = max(len(row.ids) for row in rows)
    return Batch(
        torch.tensor([row.ids + [pad] * (longest - len(row.ids)) for row in rows]),
        torch.tensor([row.weights + [0.0] * (longest - len(row.ids)) for row in rows]),
    )


def train(
    model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, *, seed: int, steps: int, rows: int, rate: float
) -> None:
    """Train on fresh rows; the learning rate rises for 30 steps, so that fewer steps are a prefix of more."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    stream = batches(encode, random.Random(seed_of("nano", seed)), rows, parts=2)
    checks = evaluation("direct", 100, seed=seed + 1)
    began = time.monotonic()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 30)
        parts = next(stream)
        learned = sum(part.weights.sum() for part in parts)
        total = 0.0
        model.train()
        for part in parts:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=part.ids).logits[:, :-1].float()
            losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), part.ids[:, 1:], reduction="none")
            loss = (losses * part.weights[:, 1:]).sum() / learned
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps:
            share = accuracy(model, encode, checks)
            logger.info("step %d: loss %.3f, direct %.2f, %.0f s", step, total, share, time.monotonic() - began)


def evaluation(name: str, count: int, *, seed: int) -> list[Talk]:
    """Return held-out problems of `sums` in this format."""
    problems: Sequence[Problem] = sums.load(train=0, valid=0, test=count, seed=seed)["test"]
    stream = random.Random(seed_of("nano", name, seed))
    return [FORMATS[name][0](tuple(map(int, re.findall(r"\d+", each.text))), stream) for each in problems]


def respond(
    model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, talks: Sequence[Talk], *, temperature: float = 0.0
) -> list[str]:
    """Return one response to each prompt; a response that does not end comes back as far as it got."""
    model.eval()
    texts = [encode.apply_chat_template(t.prompt, add_generation_prompt=True, tokenize=False) for t in talks]
    responses: list[str] = []
    for start in range(0, len(texts), 256):
        inputs = encode(texts[start : start + 256], return_tensors="pt", padding=True, return_token_type_ids=False)
        settings = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=64, **settings)
        responses += encode.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return responses


def accuracy(model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, talks: Sequence[Talk]) -> float:
    """Return the share of right greedy responses."""
    return sum(map(right, talks, respond(model, encode, talks))) / len(talks)


def table(model: LlamaForCausalLM, encode: PreTrainedTokenizerFast, *, count: int, seed: int) -> dict[str, float]:
    """Measure every format greedily, and direct problems also by eight samples at temperature 1."""
    measured = {name: accuracy(model, encode, evaluation(name, count, seed=seed)) for name in FORMATS}
    talks = evaluation("direct", count, seed=seed)
    torch.manual_seed(seed)
    again = [talk for talk in talks for _ in range(8)]
    hits = list(map(right, again, respond(model, encode, again, temperature=1.0)))
    measured["direct, pass@1 at temperature 1"] = sum(hits) / len(hits)
    measured["direct, pass@8 at temperature 1"] = sum(any(hits[i : i + 8]) for i in range(0, len(hits), 8)) / count
    return measured


def main() -> None:
    """Make the model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1750)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    encode = tokenizer()
    ends = {"eos_token_id": encode.eos_token_id, "pad_token_id": encode.pad_token_id}
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(encode),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            attn_implementation="eager",  # for so few columns quicker on a CPU than fused attention
            bos_token_id=None,
            **ends,
        )
    )
    model.generation_config = GenerationConfig(**ends)
    train(model, encode, seed=asked.seed, steps=asked.steps, rows=asked.rows, rate=asked.rate)
    model.save_pretrained(asked.out)
    encode.save_pretrained(asked.out)
    measured = table(model, encode, count=400, seed=asked.seed + 2)
    (asked.out / "accuracy.json").write_text(json.dumps(measured, indent=2) + "\n")
    logger.info("%d parameters\n%s", sum(p.numel() for p in model.parameters()), json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
