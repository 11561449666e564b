"""Evaluation by lm-evaluation-harness: a line where it can't be had, and with it a task file's own data."""

import json
from pathlib import Path

import pytest

from selftrain.backends import harness
from tests.front_door import call, refused

TASK = """task: sums_of_mine
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "<|user|>{{{{question}}}}<|end|><|assistant|>"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["<|end|>"]
  max_gen_toks: 64
  do_sample: false
filter_list:
  - name: last-number
    filter:
      - function: regex
        regex_pattern: "#### (-?[0-9]+)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


def test_a_missing_package_and_mixed_options_are_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "PACKAGE", "no_such_package")
    assert "pip install 'selftrain[lm-eval]'" in refused("eval", "nano", "--lm-eval", "gsm8k")
    assert "no settings, --against or --like" in refused("eval", "nano", "samples=2", "--lm-eval", "gsm8k")


@pytest.mark.slow
def test_a_task_of_ones_own_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    sums = [(a, b) for a in (2, 14, 31, 50) for b in (3, 27, 48)]
    rows = [{"question": f"What is {a}+{b}?", "answer": str(a + b)} for a, b in sums]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sums.yaml").write_text(TASK.format(data=tmp_path / "sums.jsonl"))
    answer = call("eval", "nano", "--lm-eval", tmp_path / "sums.yaml", "--json")
    assert answer.code == 0, answer
    (figure,) = json.loads(answer.out[answer.out.index("{\n") :])["tasks"]
    assert (figure["task"], figure["n"]) == ("sums_of_mine", len(sums))
    assert figure["metric"] == "exact_match (last-number)"
    assert figure["low"] < figure["value"] < figure["high"]
    assert "no task 'sums_of_min'" in refused("eval", "nano", "--lm-eval", "sums_of_min")
    assert "there is no task file" in refused("eval", "nano", "--lm-eval", tmp_path / "nosuch.yaml")
