"""What a run will do, before it does it: stages, the words of the round, barriers and swaps, tokens, time, disk."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selftrain.loop.controller import segments
from selftrain.recipe import Cost, Recipe, Stage, baseline, expanded
from selftrain.round import History

USUAL = 0.5
"""Share of the most tokens that samples usually take; what a run really takes stands in its stage.json files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What of a run the estimate needs."""

    parameters: int
    pool: int
    """Problems a round is drawn from, after the draw."""
    held_out: int
    cuda: bool
    cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan as lines, and the estimate as numbers."""

    lines: tuple[str, ...]
    tokens: int
    """Sampled tokens, as usual; at most twice that."""
    seconds: float
    bytes: int
    memory: int
    """Bytes that a training takes at least where there is no device; 0 where there is one, or nothing is trained."""


def make_plan(recipe: Recipe, size: Size, facts: Mapping[str, str]) -> Plan:
    """Return the plan of a recipe; `facts` are further lines (model, data, sampler) to stand first."""
    stages = recipe.stages(History())
    lines = [f"{name:<9} {text}" for name, text in facts.items()]
    lines.append(f"{'labels':<9} {recipe.labels}: " + _labels(recipe))
    lines.append(f"{'words':<9} {words(stages, recipe)}")
    lines.append(f"{'rounds':<9} {recipe.rounds}, each:")
    barriers = 0
    for segment in segments(stages):
        barriers += 1
        for position, stage in enumerate(segment):
            mark = (
                "┌" if position == 0 and len(segment) > 1 else "└" if position == len(segment) - 1 and position else "│"
            )
            mark = "─" if len(segment) == 1 else mark
            said = ", ".join(f"{name} {text}" for name, text in stage.words().items() if text)
            where = "" if stage.splits == ("train",) or stage.scope == "round" else f" [{'+'.join(stage.splits)}]"
            lines.append(f"  {mark} {stage.name:<17}{where} {said}".rstrip())
    cost = _cost(recipe, stages, size)
    swaps = sum("trainer" in stage.uses for stage in stages) * recipe.rounds
    lines.append(
        f"{'engine':<9} {barriers} barriers a round; {swaps} weight swaps in all; joined stages stream shard by shard"
    )
    tokens = int(cost.tokens * USUAL)
    seconds = _seconds(recipe, stages, size, tokens)
    space = cost.bytes + _weights(recipe, stages, size)
    lines.append(
        f"{'estimate':<9} {tokens:,} tokens (at most {cost.tokens:,}), about {duration(seconds)},"
        f" {space / 1e9:.1f} GB of disk"
    )
    # The weights that are trained, and the float32 master that the adapter is merged into.
    memory = 0 if size.cuda or not swaps else size.parameters * 8
    return Plan(lines=tuple(lines), tokens=tokens, seconds=seconds, bytes=space, memory=memory)


def words(stages: Sequence[Stage], recipe: Recipe) -> str:
    """Say what each round trains from, on what, and what it samples: kept in plan, manifest and card."""
    said: dict[str, str] = {}
    for stage in stages:
        said |= {name: text for name, text in stage.words().items() if name in ("start", "data", "reference")}
    reference = said.pop("reference", "none")
    said["draw"] = f"{recipe.draw} problems in turn" if recipe.draw else "all problems"
    said["reference"] = reference
    return ", ".join(f"{name}: {text}" for name, text in said.items())


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _labels(recipe: Recipe) -> str:
    seeing = [stage.name for stage in (*recipe.before, *recipe.given(), *recipe.after) if stage.gold]
    return f"{', '.join(seeing)} see gold answers" if seeing else "no stage of the loop sees a gold answer"


def _cost(recipe: Recipe, stages: Sequence[Stage], size: Size) -> Cost:
    """All rounds, round 0 included, at most."""
    total = Cost()
    once_too = (*baseline(stages), *expanded(recipe.before), *expanded(recipe.after))
    for stage, times in (*((stage, recipe.rounds) for stage in stages), *((stage, 1) for stage in once_too)):
        once = stage.cost(size.pool if "train" in stage.splits else size.held_out)
        total = Cost(*(a + b * times for a, b in zip(total, once, strict=True)))
    return total


def _seconds(recipe: Recipe, stages: Sequence[Stage], size: Size, tokens: int) -> float:
    """A rough guess: sampling and training at rates seen for small models, scaled by parameters and cores."""
    sampling = tokens / sampling_speed(size.parameters, size.cores, cuda=size.cuda)
    trained = sum(stage.cost(size.pool).samples for stage in stages if "train" in stage.splits) * 0.3 * 100
    training = trained * recipe.rounds / max(1.0, _speed(size.parameters, size.cores, cuda=size.cuda) * 0.4)
    return 30 + sampling + training


def sampling_speed(parameters: int, cores: int, *, cuda: bool) -> float:
    """Return a rough guess of the tokens a second; with a small model what is done beside the model is the limit."""
    return min(_speed(parameters, cores, cuda=cuda), 50_000 if cuda else 5_000 * cores)


def _speed(parameters: int, cores: int, *, cuda: bool) -> float:
    return (3e13 if cuda else 7e10 * cores) / parameters


def _weights(recipe: Recipe, stages: Sequence[Stage], size: Size) -> int:
    """A float32 master and a bfloat16 copy per training, a copy for the base, and one more of each in the making."""
    trainings = sum("trainer" in stage.uses for stage in stages) * recipe.rounds
    return int(size.parameters * (6 * trainings + 2 + 12))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
