"""Judge the responses in a file: what `selftrain verify` does."""

import contextlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

from selftrain.columns import ROLES
from selftrain.datafiles import FileRow, read_rows
from selftrain.errors import DataError, near
from selftrain.records import Json, JsonValue, Message, Problem, Sample, Status, Verdict

BLOCK = 10_000
"""Rows of a file that are judged before their verdicts are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What judging a file came to."""

    by: str
    rows: int
    counts: Mapping[Status, int]
    seconds: float
    first: Mapping[Status, str] = field(default_factory=dict)
    """The first reason given for error and for timeout."""

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items()) or "no rows"
        first = "".join(f"; first {status}: {why}" for status, why in self.first.items())
        return f"{self.by}: {self.rows} rows in {self.seconds:.1f} s: {counts}{first}"


def verify_file(
    spec: str,
    source: Path,
    output: Path | TextIO | None = None,
    *,
    workers: int | None = None,
    time_limit: float | None = None,
    log: Path | None = None,
    model: str | None = None,
) -> Verified:
    """Judge each line of a JSONL file; verdicts go to `output` as JSON lines, in the order of the input.

    A line is `{"id", "response", "prompt"?, "answer"?, "tests"?, "meta"?}`. A file named as output appears when all
    is judged. `model` is whom the verifier may ask, by name, folder or hub id.

    Raises DataError with the line number for a row that can't be read.
    """
    from selftrain.backends.asked import asked_model
    from selftrain.backends.pool import VerifierPool

    started = time.monotonic()
    counts: Counter[Status] = Counter()
    first: dict[Status, str] = {}
    with (
        asked_model(model) as asked,
        VerifierPool(workers=workers, time_limit=time_limit, log=log, model=asked) as pool,
        opened(output) as sink,
    ):
        rows = ((row.problem, row.sample) for row in read_responses(source))
        size = None if pool.describe(spec).group else BLOCK
        for block in _blocks(rows, size):
            for verdict in _in_order(block, pool.verify(spec, block)):
                counts[verdict.status] += 1
                if verdict.status in ("error", "timeout"):
                    first.setdefault(verdict.status, f"{verdict.sample}: {verdict.why}")
                if sink is not None:
                    sink.write(json.dumps(_line(verdict)) + "\n")
    return Verified(
        by=spec, rows=sum(counts.values()), counts=dict(counts), seconds=time.monotonic() - started, first=first
    )


@contextlib.contextmanager
def opened(output: Path | TextIO | None) -> Iterator[TextIO | None]:
    """Open a file that appears when the block has ended well; something that is open already is left as it is."""
    if not isinstance(output, Path):
        yield output
        return
    if output.is_dir():
        raise DataError(f"{output} can't be written: it is a folder; name a file in it")
    partial = output.with_name(output.name + ".partial")
    try:
        file = partial.open("w", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{output} can't be written: {error.strerror}") from error
    try:
        with file:
            yield file
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


class Response(NamedTuple):
    """A row of a file, as what a verifier judges."""

    row: FileRow
    problem: Problem
    sample: Sample


def read_responses(source: Path) -> Iterator[Response]:
    """Yield the rows of a JSONL file of responses; raises DataError with the line number for one that can't be read."""
    seen: dict[str, str] = {}
    for where, values in read_rows(source):
        texts = {key: _text(values, key, where) for key in ("id", "response", "answer", "tests")}
        row_id, response = texts["id"], texts["response"]
        if row_id is None or response is None:
            missing = "id" if row_id is None else "response"
            raise DataError(f"{where} has no {missing!r}{near(missing, values)} (it has {', '.join(values)})")
        if row_id in seen:
            raise DataError(f"{where}: the id {row_id!r} is that of {seen[row_id]} too")
        seen[row_id] = where
        problem = Problem.of(
            _prompt(values.get("prompt"), where),
            answer=texts["answer"],
            tests=texts["tests"],
            meta=_meta(values.get("meta"), where),
        )
        yield Response(FileRow(where, values), problem, _sample(row_id, problem, response))


def _sample(row_id: str, problem: Problem, response: str) -> Sample:
    return Sample.given(problem, response, id=row_id, model="file")


def _text(values: Mapping[str, object], key: str, where: str) -> str | None:
    value = values.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and key in ("id", "answer"):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: {key!r} must be a text, not {json.dumps(value)[:80]}")
    return value


def _prompt(value: object, where: str) -> str | list[Message]:
    if value is None or isinstance(value, str):
        return value or ""
    turns: list[Message] = []
    for turn in value if isinstance(value, list) else [value]:
        if not isinstance(turn, dict) or not all(isinstance(turn.get(key), str) for key in ("role", "content")):
            met = json.dumps(value)[:80]
            raise DataError(f"{where}: 'prompt' must be a text or a list of {{role, content}}, not {met}")
        if turn["role"] not in ROLES:
            raise DataError(f"{where}: a turn's role is {turn['role']!r}; it can be {', '.join(ROLES)}")
        turns.append({"role": turn["role"], "content": turn["content"]})
    return turns


def _meta(value: object, where: str) -> Json:
    if value is None or isinstance(value, dict):
        return value or {}
    raise DataError(f"{where}: 'meta' must be an object, not {json.dumps(value)[:80]}")


def _blocks(rows: Iterator[tuple[Problem, Sample]], size: int | None) -> Iterator[list[tuple[Problem, Sample]]]:
    while block := list(itertools.islice(rows, size)):
        yield block


def _in_order(block: Sequence[tuple[Problem, Sample]], verdicts: Iterator[Verdict]) -> list[Verdict]:
    found = {verdict.sample: verdict for verdict in verdicts}
    return [found[sample.id] for _, sample in block]


def _line(verdict: Verdict) -> dict[str, JsonValue]:
    return {
        "id": verdict.sample,
        "by": verdict.by,
        "status": verdict.status,
        "score": verdict.score,
        "why": verdict.why,
        "seconds": round(verdict.seconds, 6),
    }
