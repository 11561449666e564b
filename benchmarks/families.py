"""Each family of verifiers in the loop on nano: does what it keeps make the model better, and better than no verifier?

python -m benchmarks.families --work WORK [--seeds 2] [--only vote likelihood]

One round of `rest_em` with the preset of the family's model, judged by the family's verifier instead of by each
problem's own (a reward or process model: of `raft`, the best of the samples by its score); beside it the same round
with the verifier off (`random_select`, as many samples a problem at most). What is measured on test is always the
problem's own verifier. Differences are paired by problem over all seeds; their intervals are corrected for the number
of families (Bonferroni). Runs lie in WORK and go on where an earlier call was stopped.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.paired import RESULTS, accuracy, against, commit, finished, machine, outcomes, shown
from selftrain import statistics


class Family(NamedTuple):
    """A verifier in the loop: its spec, the preset and recipe it runs with, and further settings."""

    by: str
    preset: str = "nano"
    recipe: str = "rest_em"
    """raft takes the best of n by a score, where there is no threshold that means right."""
    settings: Mapping[str, Any] = MappingProxyType({})


def spec(name: str, **settings: Any) -> str:
    return json.dumps({"name": name, **settings})


ASKING = {"verify.model": "policy"}
FAMILIES = {
    "answers (number)": Family(spec("number")),
    "execution (python_tests)": Family(spec("python_tests"), "nano-programs"),
    "combinators (all_of)": Family(spec("all_of", of=["number", spec("regex", pattern="####", match="search")])),
    "consensus (vote)": Family(spec("vote", by="number", threshold=0.5), settings={"verify.blind": True}),
    "consensus (mbr)": Family(spec("mbr", threshold=0.5), settings={"verify.blind": True}),
    "likelihood": Family(spec("likelihood", of="answer", threshold=-0.1), settings=ASKING),
    "judge": Family(spec("judge"), settings=ASKING | {"verify.blind": True}),
    "reward model": Family(spec("reward_model", model="nano-reward"), recipe="raft"),
    "process model": Family(spec("process_reward", model="nano-process"), recipe="raft"),
    "noise (noisy)": Family(spec("noisy", by="number", false_positive=0.2, false_negative=0.2)),
    "noise (shuffled)": Family(spec("shuffled", by="number")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="parts of families' names")
    asked = parser.parse_args()
    chosen = {k: v for k, v in FAMILIES.items() if not asked.only or any(part in k for part in asked.only)}
    lines = [
        "# Families of verifiers in the loop, one round on nano",
        "",
        f"`python -m benchmarks.families --work WORK --seeds {asked.seeds}`",
        "",
        f"Commit {commit()}, {machine()}. Greedy accuracy on test by each problem's own"
        f" verifier, after one round; differences in points, {level(len(chosen)):.2%} intervals paired by problem over"
        f" {asked.seeds} seeds.",
        "",
        "| family | base, by seed | after, by seed | after - base | after - verifier off |",
        "|---|---|---|---|---|",
    ]
    for name, family in chosen.items():
        lines.append(row(name, family, asked.work, asked.seeds, len(chosen)))
        print(lines[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "families.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(name: str, family: Family, work: Path, seeds: int, families: int) -> str:
    gains: list[float] = []
    over: list[float] = []
    bases, afters = [], []
    for seed in range(seeds):
        label = name.translate(str.maketrans("", "", "() ")).replace("_", "-")
        keep = 1 if family.recipe == "raft" else 4
        off = finished("random_select", family.preset, seed, 1, work / f"{family.preset}-off-{keep}-{seed}", keep=keep)
        settings = {("by" if family.recipe == "raft" else "verify.by"): family.by, **family.settings}
        run = finished(family.recipe, family.preset, seed, 1, work / f"{label}-{seed}", **settings)
        gains += against(outcomes(run, 1), outcomes(run, 0))
        over += against(outcomes(run, 1), outcomes(off, 1))
        bases.append(accuracy(run, 0).partition(" (")[0])
        afters.append(accuracy(run, 1).partition(" (")[0])
    found = [shown(statistics.mean(values, level=level(families))) for values in (gains, over)]
    return f"| {name} | {', '.join(bases)} | {', '.join(afters)} | {' | '.join(found)} |"


def level(families: int) -> float:
    return 1 - 0.05 / families


if __name__ == "__main__":
    main()
