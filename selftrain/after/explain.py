"""Where a training row comes from, and what became of a sample or a problem: `selftrain explain`.

row -> samples -> verdicts -> picks, with the rules that kept or dropped them; for made problems their parents too.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from selftrain.after.archive import Archive, Found, Place
from selftrain.errors import StoreError
from selftrain.loop.keys import decoded
from selftrain.records import Checkpoint, Json, Outcome, Pick, Problem, Row, Sample, Verdict
from selftrain.rules import name_of
from selftrain.store import StageFolder, Store


def explain(root: Path, id: str) -> Json:
    """Return what a run's store says of a row, a sample or a problem, as plain values with `what` saying which it is.

    Raises StoreError for a folder that is no run, or an id that it does not hold.
    """
    archive = Archive(Store.open(root))
    if row := archive.first(Row, id):
        return _row(archive, row)
    if sample := archive.first(Sample, id):
        return {"what": "sample", **_sample(archive, sample, forwards=True)}
    if problem := archive.first(Problem, id):
        return {"what": "problem", **_problem_and_after(archive, problem)}
    examples = [f"{name} {found}" for name, kind in _KINDS.items() if (found := archive.example(kind))]
    raise StoreError(
        f"{root} holds no row, sample or problem {id!r}; ids are those of the tables in its stages' folders"
        + (f", such as {', '.join(examples)}" if examples else ", and nothing is stored there yet")
    )


_KINDS: dict[str, type[Any]] = {"row": Row, "sample": Sample, "problem": Problem}


def gaps(explained: Json) -> list[str]:
    """Return what is missing in a row's chain: nothing, or the run's store is not whole."""
    if not explained["sources"]:
        return ["it names no sample"]
    found = []
    for sample in explained["sources"]:
        if "missing" in sample:
            found.append(f"sample {sample['id']} is not there")
            continue
        if not sample["problem"] or not sample["problem"]["prompt"]:
            found.append(f"the problem of sample {sample['id']} is not there")
        if not sample["picks"]:
            found.append(f"nothing has picked sample {sample['id']}")
        if not sample["verdicts"] and sample["finish"] != "gold":
            found.append(f"nothing has judged sample {sample['id']}")
    return found


def _row(archive: Archive, found: Found[Row]) -> Json:
    place, row = found
    partners = archive.find(Row, "group", [row.group], shard=place.shard) if row.group else []
    sources = [(id, archive.first(Sample, id, shard=place.shard)) for id in row.sources]
    return {
        "what": "row",
        "id": row.id,
        **place._asdict(),
        "kind": row.kind,
        "weight": row.weight,
        "tokens": {
            "prompt": sum(len(part.ids) for part in row.segments if not part.train),
            "trained": sum(len(part.ids) for part in row.segments if part.train),
        },
        "reencoded": row.reencoded,
        "labels": list(row.labels),
        "reference": dict(row.reference),
        "group": row.group,
        "partners": sorted({each.record.id for each in partners if each.place == place} - {row.id}),
        "trained_by": _trained_by(archive, place),
        "sources": [
            _sample(archive, sample, of=place) if sample else {"id": id, "missing": True} for id, sample in sources
        ],
    }


def _sample(
    archive: Archive, found: Found[Sample], *, of: Place | None = None, forwards: bool = False
) -> dict[str, Any]:
    """A sample with what it came from; with `forwards` also with what came of it.

    `of` is the place of the row that is explained: the picks of its own round tell why it is there.
    """
    place, sample = found
    shard = place.shard
    problem = archive.first(Problem, sample.problem, shard=shard)
    parents = [parent for id in sample.parents if (parent := archive.first(Sample, id, shard=shard))]
    picks = archive.find(Pick, "sample", [sample.id], shard=shard)
    told: dict[str, Any] = {
        "id": sample.id,
        **place._asdict(),
        "index": sample.index,
        "model": sample.model,
        "model_name": archive.models.get(sample.model, "unknown here"),
        "template": sample.template,
        "settings": dict(sample.settings),
        "finish": sample.finish,
        "tokens": len(sample.completion_ids),
        "text": sample.text,
        "problem": _problem(archive, problem) if problem else None,
        "verdicts": [
            {**each.place._asdict(), **asdict(each.record)}
            for each in archive.find(Verdict, "sample", [sample.id], shard=shard)
        ],
        "picks": [_pick(archive, each) for each in picks if of is None or each.place.round == of.round],
        "parents": [_sample(archive, parent) for parent in parents],
    }
    if forwards:
        told["rows"] = [_built(archive, each) for each in archive.find(Row, "sources", [sample.id], shard=shard)]
        told["asked_about"] = [_made(each) for each in archive.find(Problem, "about", [sample.id], shard=shard)]
    return told


def _pick(archive: Archive, found: Found[Pick]) -> Json:
    rules = _rules(_folder(archive, found.place))
    pick = found.record
    before = rules[: rules.index(pick.rule)] if pick.rule in rules else []
    return {
        **found.place._asdict(),
        "side": pick.side,
        "rule": pick.rule,
        "passed": before if pick.side == "dropped" else rules,
        "weight": pick.weight,
        "group": pick.group,
    }


def _problem(archive: Archive, found: Found[Problem]) -> dict[str, Any]:
    """A problem, and the one it was made from."""
    place, problem = found
    parent = archive.first(Problem, problem.parent, shard=place.shard) if problem.parent else None
    return {
        "id": problem.id,
        **place._asdict(),
        "kind": problem.kind,
        "split": problem.split,
        "prompt": [dict(turn) for turn in problem.prompt],
        "answer": problem.answer,
        "verifier": problem.verifier,
        "about": list(problem.about),
        "parent": _problem(archive, parent) if parent else None,
    }


def _problem_and_after(archive: Archive, found: Found[Problem]) -> dict[str, Any]:
    """A problem and what became of it: its samples, what was made of it, how it came out where it is measured."""
    place, problem = found
    made = archive.find(Problem, "parent", [problem.id], shard=place.shard)
    outcomes = archive.find(Outcome, "problem", [problem.id], shard=place.shard)
    samples = archive.find(Sample, "problem", [problem.id], shard=place.shard)
    ids = [each.record.id for each in samples]
    said: dict[str, list[Json]] = {id: [] for id in ids}
    for verdict in archive.find(Verdict, "sample", ids, shard=place.shard):
        words = {key: getattr(verdict.record, key) for key in ("by", "status", "score", "why")}
        said[verdict.record.sample].append({**verdict.place._asdict(), **words})
    picked: dict[str, list[Json]] = {id: [] for id in ids}
    for pick in archive.find(Pick, "sample", ids, shard=place.shard):
        picked[pick.record.sample].append(_pick(archive, pick))
    return {
        **_problem(archive, found),
        "outcomes": [
            {**each.place._asdict(), "name": each.record.name, "value": each.record.value} for each in outcomes
        ],
        "samples": [
            {
                "id": each.record.id,
                **each.place._asdict(),
                "text": each.record.text,
                "model_name": archive.models.get(each.record.model, "unknown here"),
                "verdicts": said[each.record.id],
                "picks": picked[each.record.id],
            }
            for each in samples
        ],
        "made": [_made(each) for each in made],
    }


def _made(found: Found[Problem]) -> Json:
    return {**found.place._asdict(), "id": found.record.id, "kind": found.record.kind}


def _built(archive: Archive, found: Found[Row]) -> Json:
    return {
        **found.place._asdict(),
        "id": found.record.id,
        "kind": found.record.kind,
        "weight": found.record.weight,
        "trained_by": _trained_by(archive, found.place),
    }


def _trained_by(archive: Archive, place: Place) -> list[str]:
    """The stages of the round that have trained on what a stage built, or on what others have made of that."""
    built, found = {place.stage}, []
    for number, folder in archive.folders:
        if number == place.round and folder.done() and not built.isdisjoint(folder.settings().get("reads", {})):
            if folder.files(Row):
                built.add(folder.name)
            elif folder.files(Checkpoint):
                found.append(f"round {number} {folder.name}")
    return found


def _rules(folder: StageFolder) -> list[str]:
    """The names of a Select's rules in their order, as its key has them."""
    encoded = folder.settings().get("settings", {}).get("rules", [])
    try:
        return [name_of(rule) for rule in decoded(encoded)]
    except StoreError:  # a plug-in that is not there any more: its rules' names are
        return [str(each.get("@", "?")).rpartition(":")[2] for each in encoded]


def _folder(archive: Archive, place: Place) -> StageFolder:
    return next(folder for number, folder in archive.folders if (number, folder.name) == (place.round, place.stage))
