"""What `selftrain explain` has found, as lines to read."""

from collections.abc import Sequence

from selftrain.records import Json

INDENT = "    "


def lines(explained: Json) -> list[str]:
    """Return it as lines to read."""
    if explained["what"] == "row":
        return _row_lines(explained)
    if explained["what"] == "sample":
        return [*_sample_lines(explained, ""), *_after_lines(explained)]
    return _problem_lines(explained)


def _row_lines(row: Json) -> list[str]:
    tokens = row["tokens"]
    told = [
        f"row {row['id']} ({row['kind']}), {_where(row)}: {tokens['prompt']} prompt tokens, {tokens['trained']} in the"
        f" loss, weight {row['weight']:g}{', encoded again from text' if row['reencoded'] else ''}"
    ]
    if row["partners"]:
        told.append(f"{INDENT}paired with row {', '.join(row['partners'])} (group {row['group']})")
    told += [f"{INDENT}{name}: log-probability {value:.3f}" for name, value in row["reference"].items()]
    told.append(f"{INDENT}trained on by {', '.join(row['trained_by']) or 'nothing yet'}")
    for sample in row["sources"]:
        if "missing" in sample:
            told.append(f"from sample {sample['id']}, which is not stored here")
        else:
            told += _sample_lines(sample, "from ")
    return told


def _sample_lines(sample: Json, lead: str) -> list[str]:
    asked = sample["problem"]
    settings = ", ".join(f"{name}={value}" for name, value in sample["settings"].items())
    how = ", ".join(each for each in (sample["template"], settings, f"finish {sample['finish']}") if each)
    told = [
        f"{lead}sample {sample['id']}, {_where(sample)}, number {sample['index']}",
        f"{INDENT}by {sample['model_name']} ({sample['model']}); {how}; {sample['tokens']} tokens",
    ]
    if asked:
        told += [f"{INDENT}{each}" for each in _asked_lines(asked)]
    told += [f"{INDENT}response:", *_text(sample["text"])]
    told += [f"{INDENT}{_verdict_line(each)}" for each in sample["verdicts"]] or [f"{INDENT}judged by nobody"]
    told += [f"{INDENT}{_pick_line(each)}" for each in sample["picks"]] or [f"{INDENT}no rule has seen it"]
    for parent in sample["parents"]:
        told += [f"{INDENT}{line}" for line in _sample_lines(parent, "made from ")]
    return told


def _after_lines(sample: Json) -> list[str]:
    rows = [
        f"{INDENT}became row {each['id']} ({each['kind']}), {_where(each)};"
        f" trained on by {', '.join(each['trained_by']) or 'nothing yet'}"
        for each in sample["rows"]
    ]
    asked = [f"{INDENT}asked about by problem {e['id']} ({e['kind']}), {_where(e)}" for e in sample["asked_about"]]
    return [*(rows or [f"{INDENT}became no row"]), *asked]


def _asked_lines(problem: Json) -> list[str]:
    kind = "" if problem["kind"] == "task" else f" ({problem['kind']})"
    answer = "" if problem["answer"] is None else f"; answer {problem['answer']}"
    told = [f"problem {problem['id']}{kind}, {problem['split']}, judged by {problem['verifier'] or 'its parent'}"]
    told[0] += f"{answer}:"
    for turn in problem["prompt"]:
        told += _text(f"{turn['role']}: {turn['content']}")
    if problem["parent"]:
        told += ["made from:", *(f"{INDENT}{line}" for line in _asked_lines(problem["parent"]))]
    return told


def _problem_lines(problem: Json) -> list[str]:
    told = _asked_lines(problem)
    told += [f"{INDENT}{each['name']} {each['value']:g}, {_where(each)}" for each in problem["outcomes"]]
    for sample in problem["samples"]:
        told.append(f"{INDENT}sample {sample['id']}, {_where(sample)}, by {sample['model_name']}")
        told += [f"{INDENT}{line}" for line in _text(sample["text"])]
        told += [f"{INDENT * 2}{_verdict_line(each)}" for each in sample["verdicts"]]
        told += [f"{INDENT * 2}{_pick_line(each)}" for each in sample["picks"]]
    told += [f"{INDENT}made of it: problem {e['id']} ({e['kind']}), {_where(e)}" for e in problem["made"]]
    return told if problem["samples"] or problem["outcomes"] else [*told, f"{INDENT}nobody has tried it yet"]


def _verdict_line(verdict: Json) -> str:
    score = "" if verdict["score"] is None else f" {verdict['score']:g}"
    why = f": {verdict['why']}" if verdict["why"] else ""
    beside = ", which no stage reads" if str(verdict["stage"]).startswith("audit") else ""
    return f"{verdict['status']}{score} by {verdict['by']}, {_where(verdict)}{beside}{why}"


def _pick_line(pick: Json) -> str:
    if pick["side"] == "dropped":
        after = f", after {', '.join(pick['passed'])}" if pick["passed"] else ""
        return f"dropped by {pick['rule']}{after}, {_where(pick)}"
    rules = ", ".join(pick["passed"] if pick["side"] == "kept" else [pick["rule"]]) or "no rule"
    group = f", group {pick['group']}" if pick["group"] else ""
    return f"{pick['side']} by {rules}, weight {pick['weight']:g}{group}, {_where(pick)}"


def _where(place: Json) -> str:
    return f"round {place['round']} {place['stage']}"


def _text(text: str) -> Sequence[str]:
    return [f"{INDENT}| {line}" for line in text.splitlines()]
