import json
import random
import re
import runpy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from selftrain import plugins
from selftrain.backends.models import resolve
from selftrain.records import Problem

FOLDER = resolve("nano")
TEXT = "\n".join(("What is 47+85+9?", "  7+5+9=21 ", "#### 141", "".join(map(chr, range(32, 127)))))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def sums(count: int, seed: int) -> Sequence[Problem]:
    problems: Sequence[Problem] = plugins.load("data", "sums").load(train=0, valid=0, test=count, seed=seed)["test"]
    return problems


def ask(model: Any, tokenizer: Any, prompts: Sequence[str], **settings: Any) -> Any:
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    inputs = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
    )
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=64, **settings)
    return out[:, inputs["input_ids"].shape[1] :]


def right(response: str, answer: str | None) -> bool:
    return re.findall(r"\d+", response)[-1:] == [answer]


def test_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 8_000_000


def test_text_survives_encoding_and_decoding(tokenizer: Any) -> None:
    ids = tokenizer(TEXT)["input_ids"]
    assert len(ids) == len(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXT


def test_unknown_characters_become_one_token_each(tokenizer: Any) -> None:
    ids = tokenizer("é1\u4e2d")["input_ids"]
    assert ids == [tokenizer.unk_token_id, tokenizer("1")["input_ids"][0], tokenizer.unk_token_id]


def test_prompt_is_a_prefix_of_the_conversation(tokenizer: Any) -> None:
    turns = [{"role": "system", "content": "Be right."}, {"role": "user", "content": "What is 1+2?"}]
    whole = [*turns, {"role": "assistant", "content": "1+2=3\n#### 3"}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    full = tokenizer.apply_chat_template(whole, return_dict=False)
    assert full[: len(prompt)] == prompt
    assert full[len(prompt) :] == [*tokenizer("1+2=3\n#### 3")["input_ids"], tokenizer.eos_token_id]
    assert tokenizer.unk_token_id not in full


def test_unknown_role_is_refused(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="not tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "3"}])


def test_model_knows_its_end(model: Any, tokenizer: Any) -> None:
    assert model.config.tie_word_embeddings
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.decode([tokenizer.eos_token_id]) == "<|end|>"


def test_greedy_is_partly_right_and_hints_help(model: Any, tokenizer: Any) -> None:
    problems = sums(100, seed=11)
    plain = ask(model, tokenizer, [each.text for each in problems], do_sample=False)
    hinted = ask(model, tokenizer, [f"{p.text}\n(The answer is {p.answer}.)" for p in problems], do_sample=False)
    ended = sum(tokenizer.eos_token_id in row for row in plain.tolist())
    shares = [
        sum(map(right, tokenizer.batch_decode(out, skip_special_tokens=True), (p.answer for p in problems))) / 100
        for out in (plain, hinted)
    ]
    assert 0.20 <= shares[0] <= 0.45
    assert shares[1] >= shares[0] + 0.1
    assert ended >= 98


def test_samples_differ(model: Any, tokenizer: Any) -> None:
    torch.manual_seed(0)
    out = ask(model, tokenizer, ["What is 47+85+9?"] * 16, do_sample=True, temperature=1.0, top_k=0)
    assert len(set(tokenizer.batch_decode(out, skip_special_tokens=True))) >= 4


def test_table_of_the_readme_is_the_measured_one() -> None:
    measured: dict[str, float] = json.loads((FOLDER / "accuracy.json").read_text())
    text = (FOLDER / "README.md").read_text()
    for name, share in measured.items():
        assert f"| {name} | {share:.1%} |" in text


def test_mistakes_are_where_the_script_says() -> None:
    make = runpy.run_path(str(FOLDER / "make.py"))
    known, stream = plugins.load("data", "sums"), random.Random(0)
    for _ in range(500):
        terms = known.draw(stream, (2, 3), (1, 2))
        steps = known.steps(terms)
        lines, wrong = make["spoiled"](terms, stream)
        assert lines[: wrong - 1] == steps[: wrong - 1]
        assert lines[wrong - 1] != steps[wrong - 1]
        carries = sum(term % 10 for term in terms) > 9 and max(terms) > 9
        assert (make["careless"](terms) != steps) == carries


def test_every_format_ends_with_its_response() -> None:
    make = runpy.run_path(str(FOLDER / "make.py"))
    encode, stream = make["tokenizer"](), random.Random(0)
    for name, (maker, _) in make["FORMATS"].items():
        talk = maker((47, 85, 9), stream)
        row = make["weighed"](encode, talk)
        learned = encode.decode([one for one, weight in zip(row.ids, row.weights, strict=True) if weight])
        assert learned == talk.response + "<|end|>", name
        assert encode.unk_token_id not in row.ids
