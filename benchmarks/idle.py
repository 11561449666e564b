"""Time of a round in which neither engine nor trainer nor verifier is busy: what the control itself takes.

python -m benchmarks.idle --runs RUN [RUN ...]

By the events of finished runs. Counted as control is all of a round but the seconds of stages that sample, train or
verify: selecting, building, measuring, deciding, and what lies between stages, the change of weights included.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from benchmarks.paired import keep
from selftrain import plugins
from selftrain.round import History

BUSY = {"sampler", "trainer", "verifiers"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    asked = parser.parse_args()
    figures = {}
    for root in asked.runs:
        about = yaml.safe_load((root / "run.yaml").read_text())
        figures[f"{about['recipe']} on {about['model']['policy']}"] = measured(root, about["recipe"])
    keep("idle", "python -m benchmarks.idle --runs RUN ...", figures)


def measured(root: Path, recipe: str) -> dict[str, Any]:
    """Return each round's seconds, and the share of them in which nothing else was busy."""
    stages = plugins.load("recipe", recipe).recipe().stages(History())
    busy = {stage.name for stage in stages if BUSY & set(stage.uses)}
    events = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    rounds = sorted({each["round"] for each in events if each["round"] > 0})
    # A round lasts from the end of the one before to its own: the last event's time.
    ends = {round: max(each["time"] for each in events if each["round"] == round) for round in (0, *rounds)}
    seconds = {round: ends[round] - ends[round - 1] for round in rounds}
    at_work = {
        round: sum(each["wall_seconds"] for each in events if each["round"] == round and each["stage"] in busy)
        for round in rounds
    }
    shares = [1 - at_work[round] / seconds[round] for round in rounds]
    return {
        "seconds a round": [round(each, 1) for each in seconds.values()],
        "control, % of a round": [round(100 * each, 2) for each in shares],
    }


if __name__ == "__main__":
    main()
