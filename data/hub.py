"""A data set from the hub, with a mapping of its columns: `hub:owner/name`."""

from collections.abc import Mapping, Sequence

from selftrain.backends.hub import hub_rows
from selftrain.columns import Columns
from selftrain.datafiles import FileRow
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
    config: str | None = None,
    train_split: str = "train",
    test_split: str | None = None,
    prompt: str = "prompt",
    answer: str | None = None,
    solution: str | None = None,
    tests: str | None = None,
    id: str | None = None,
    choices: str | None = None,
    verifier: str | None = None,
    meta: tuple[str, ...] = (),
) -> Mapping[str, Sequence[Problem]]:
    """Return problems of the hub's train split, and of its test split where one is named; else all from the former."""
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
    counts = {"train": train, "valid": valid, "test": test}
    given = unique((row.where, columns.problem(row)) for row in hub_rows(what, config=config, split=train_split))
    official = None
    if test_split is not None:
        official = unique((row.where, columns.problem(row)) for row in hub_rows(what, config=config, split=test_split))
    return divide(what, given, counts, seed=seed, test=official)


def bundled() -> Sequence[Problem]:
    """Return what a row in the default columns becomes."""
    return [Columns().problem(FileRow("row 1", {"prompt": "How many legs do three cats have?", "answer": "12"}))]
