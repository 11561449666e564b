"""Which problems and samples a page without a server holds: all gained and lost ones first, the rest by chance."""

import json
from dataclasses import dataclass
from typing import Any

from selftrain.records import Json
from selftrain.report.browse import BYTES, PER_ROUND, PROMPT, SAMPLES, TEXT, choices, problems_of, samples_of
from selftrain.report.view import View

BATCH = 250
"""Problems that are looked up at once."""


@dataclass(frozen=True, slots=True)
class Subset:
    """Problems with some of their samples, and a sentence that says which."""

    problems: list[Json]
    samples: list[Json]
    says: str
    choices: dict[str, list[Any]]

    def as_json(self) -> Json:
        """It as plain data for the page."""
        return {"problems": self.problems, "samples": self.samples, "says": self.says, "choices": self.choices}


def subset(view: View, *, samples: int = SAMPLES, size: int = BYTES) -> Subset:
    """Return what fits into so many samples and bytes; which of the rest are taken depends on problems' ids alone."""
    ordered = view.database.rows(
        "SELECT id, coalesce(change IN ('gained', 'lost'), false) AS first FROM given WHERE change != ''"
        " ORDER BY first DESC, hash(id), id LIMIT ?",
        samples,
    )
    moved = view.database.one("SELECT count(*) FROM given WHERE change IN ('gained', 'lost')")
    rounds = len(view.store.rounds())
    total = view.database.one("SELECT count(*) FROM attempts")
    each = None if total <= samples else max(1, min(PER_ROUND, samples // max(1, moved * rounds)))
    problems: list[Json] = []
    taken: list[Json] = []
    left, room = size, samples
    for first in range(0, len(ordered), BATCH):
        ids = [id for id, _ in ordered[first : first + BATCH]]
        of: dict[str, list[Json]] = {id: [] for id in ids}
        for sample in samples_of(view, ids, most=each, longest=TEXT):
            of[sample["given"]].append(sample)
        for problem in problems_of(view, ids, longest=PROMPT):
            weight = len(json.dumps([problem, of[problem["id"]]], ensure_ascii=False).encode("utf-8", "replace"))
            if weight > left or len(of[problem["id"]]) > room:
                return _told(view, problems, taken, moved)
            left, room = left - weight, room - len(of[problem["id"]])
            problems.append(problem)
            taken += of[problem["id"]]
    return _told(view, problems, taken, moved)


def _told(view: View, problems: list[Json], samples: list[Json], moved: int) -> Subset:
    total = view.database.one("SELECT count(*) FROM attempts")
    held = sum(each["change"] in ("gained", "lost") for each in problems)
    if len(samples) == total:
        says = f"All {total:,} samples of {len(problems):,} problems."
    else:
        which = f"all {moved:,}" if held == moved else f"{held:,} of {moved:,}"
        chosen = f"{which} that were gained or lost first, the rest by chance" if moved else "chosen by chance"
        says = (
            f"{len(samples):,} of {total:,} samples, of {len(problems):,} problems: {chosen}."
            " `selftrain report DIR --serve` shows all."
        )
    return Subset(problems, samples, says, choices(view))
