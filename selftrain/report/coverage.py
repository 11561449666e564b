"""Which problems were gained and which lost, by how hard they were."""

from collections import defaultdict

from selftrain.report import figures
from selftrain.report.database import BINS, CHANGES
from selftrain.report.parts import Figure, Grid, Section, Table, Text
from selftrain.report.view import View

SAID = {
    "gained": "gained: no sample passed, now one does",
    "lost": "lost: a sample passed, now none does",
    "kept": "kept: one passed, and does",
    "unsolved": "unsolved: none passed, none does",
    "once": "sampled in one round only",
}


def section(view: View) -> Section:
    """Coverage gained and lost in each difficulty bin, and where the kept samples come from."""
    changes = _changes(view)
    parts: list[Text | Grid] = [Text(text=_sentence(view, changes))]
    drawn = [figure for split in sorted(changes) if (figure := _changed(view, split, changes[split]))]
    drawn += [figure for figure in [_kept(view)] if figure]
    return Section(id="coverage", title="Problems gained and lost", parts=[*parts, Grid(figures=drawn)])


def _changes(view: View) -> dict[str, dict[tuple[str, str], int]]:
    """Split -> (difficulty, change) -> how many problems."""
    found: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    query = "SELECT split, bin, change, count(*) FROM given WHERE change != '' GROUP BY ALL"
    for split, bin, change, n in view.database.rows(query):
        found[split][bin, change] = n
    return found


def _sentence(view: View, changes: dict[str, dict[tuple[str, str], int]]) -> str:
    said = []
    for split, cells in sorted(changes.items()):
        total = {change: sum(n for (_, c), n in cells.items() if c == change) for change in CHANGES}
        if total["gained"] + total["lost"] + total["kept"] + total["unsolved"]:
            said.append(f"{split}: {total['gained']} gained, {total['lost']} lost, {total['kept']} kept")
        if total["once"]:
            said.append(f"{split}: {total['once']} problems were sampled in one round only")
    return (
        f"Round {view.shown} beside the first samples of each problem (of held-out problems: the base model's)."
        " A problem is covered when at least one of its samples passes; its difficulty is the share of its first"
        f" samples that passed. {'; '.join(said) or 'Nothing was sampled twice yet'}. The sample browser lists them:"
        " filter by change."
    )


def _changed(view: View, split: str, cells: dict[tuple[str, str], int]) -> Figure | None:
    rows = [
        {"name": said, "part": change, "value": cells[name, change]}
        for name, said, _ in BINS
        for change in CHANGES
        if cells.get((name, change))
    ]
    kinds = [change for change in CHANGES if any(row["part"] == change for row in rows)]
    if not rows:
        return None
    order = [said for _, said, _ in BINS]
    table = Table(
        head=("passed at first", *kinds),
        rows=[(said, *(cells.get((name, change), 0) for change in kinds)) for name, said, _ in BINS],
    )
    return Figure(
        id=f"coverage-{split}",
        title=f"Coverage on {split}, by difficulty" if kinds != ["once"] else f"Difficulty of {split} problems",
        says="; ".join(SAID[kind] for kind in kinds) + ".",
        spec=figures.stacked(rows, x="Problems", y="Passed at first", series="Change", order=order, kinds=CHANGES),
        table=table,
    )


def _kept(view: View) -> Figure | None:
    """Rows kept by round and difficulty: whether training narrows to what is easy."""
    found = view.database.rows(
        "SELECT p.round, g.bin, count(*) FROM picks p JOIN attempts a ON a.id = p.sample JOIN given g ON g.id = a.given"
        " WHERE p.side IN ('kept', 'chosen') AND g.bin != '' GROUP BY ALL ORDER BY 1"
    )
    if not found:
        return None
    totals: dict[int, int] = defaultdict(int)
    for number, _, n in found:
        totals[number] += n
    said = {name: text for name, text, _ in BINS}
    rows = [
        {"name": f"round {number}", "part": said[bin], "value": n}
        for number, bin, n in sorted(found, key=lambda row: (row[0], [b[0] for b in BINS].index(row[1])))
    ]
    kinds = [text for _, text, _ in BINS]
    return Figure(
        id="kept-by-difficulty",
        title="Kept samples, by difficulty of their problem",
        says="Where training looks: a share of easy problems that grows round by round narrows the model to them.",
        spec=figures.stacked(
            rows,
            x="Samples kept",
            y="",
            series="Passed at first",
            order=[f"round {number}" for number in sorted(totals)],
            kinds=kinds,
        ),
        table=Table(
            head=("round", *kinds),
            rows=[
                (
                    number,
                    *(
                        sum(r["value"] for r in rows if r["name"] == f"round {number}" and r["part"] == k)
                        for k in kinds
                    ),
                )
                for number in sorted(totals)
            ],
        ),
    )
