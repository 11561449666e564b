"""A user's own file: JSONL, CSV or Parquet, with a mapping of its columns; `./questions.jsonl` for short."""

from collections.abc import Mapping, Sequence

from selftrain import paths
from selftrain.columns import Columns
from selftrain.datafiles import FileRow, read_rows
from selftrain.problems import divide, unique
from selftrain.records import Problem

natural = True


def load(
    *,
    train: int,
    valid: int,
    test: int,
    seed: int,
    what: str,
    prompt: str = "prompt",
    answer: str | None = None,
    solution: str | None = None,
    tests: str | None = None,
    id: str | None = None,
    choices: str | None = None,
    verifier: str | None = None,
    meta: tuple[str, ...] = (),
) -> Mapping[str, Sequence[Problem]]:
    """Return the file's problems, divided by the hash of their content."""
    columns = Columns(
        prompt=prompt,
        answer=answer,
        solution=solution,
        tests=tests,
        id=id,
        choices=choices,
        verifier=verifier,
        meta=meta,
    )
    rows = unique((row.where, columns.problem(row)) for row in read_rows(paths.typed(what)))
    return divide(what, rows, {"train": train, "valid": valid, "test": test}, seed=seed)


def bundled() -> Sequence[Problem]:
    """Return what two rows in the default columns become."""
    rows = (
        FileRow("line 1", {"prompt": "How many legs do three cats have?", "answer": 12}),
        FileRow("line 2", {"prompt": "What colour is grass?", "answer": "B", "choices": ["red", "green"]}),
    )
    return [Columns().problem(row) for row in rows]
