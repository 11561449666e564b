"""GSM8K (Cobbe et al. 2021, arXiv:2110.14168): 7,473 + 1,319 grade-school word problems with written solutions.

From the hub (`openai/gsm8k`), or from files of the same rows: `path` is a folder with train.jsonl and test.jsonl (or
gsm8k_train.jsonl, gsm8k_test.jsonl). The test split is the official one; valid is cut from the official train split.
`gsm8k.jsonl` holds 20 train rows for tests (MIT, see gsm8k.LICENSE).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from selftrain import paths
from selftrain.backends.hub import hub_rows
from selftrain.datafiles import FileRow, read_rows
from selftrain.errors import DataError
from selftrain.problems import divide, unique
from selftrain.records import Problem
from selftrain.verification.answers import read_number

natural = True
HUB = "openai/gsm8k"
_CALCULATION = re.compile(r"<<[^<>]*>>")


def load(
    *,
    train: int,
    valid: int,
    test: int,
    seed: int,
    path: str | None = None,
    train_file: str | None = None,
    test_file: str | None = None,
    annotations: bool = False,
) -> Mapping[str, Sequence[Problem]]:
    """Return problems; `annotations` keeps the calculator's <<48/2=24>> in the solutions."""
    counts = {"train": train, "valid": valid, "test": test}
    official = _rows("train", path, train_file) if train or valid else iter(())
    held_out = _rows("test", path, test_file) if test else iter(())
    return divide(
        "gsm8k",
        unique((row.where, problem(row, annotations=annotations)) for row in official),
        counts,
        seed=seed,
        test=unique((row.where, problem(row, annotations=annotations)) for row in held_out),
    )


def bundled() -> Sequence[Problem]:
    """Return the 20 bundled problems."""
    return [problem(row) for row in read_rows(Path(__file__).with_suffix(".jsonl"))]


def problem(row: FileRow, *, annotations: bool = False) -> Problem:
    """Make a problem of a row: the answer is what stands after ####."""
    question, written = row.values.get("question"), row.values.get("answer")
    if not isinstance(question, str) or not isinstance(written, str):
        raise DataError(f"{row.where} is no row of GSM8K: it needs question and answer, has {', '.join(row.values)}")
    answer = written.rpartition("####")[2].strip()
    if read_number(answer) is None:
        raise DataError(f"{row.where}: its answer has no number after ####")
    solution = written if annotations else _CALCULATION.sub("", written)
    steps = len([line for line in written.splitlines() if not line.startswith("####")])
    return Problem.of(question, answer=answer, solution=solution, verifier="number", meta={"steps": steps})


def _rows(split: str, path: str | None, file: str | None) -> Iterator[FileRow]:
    if file is not None:
        return read_rows(paths.typed(file))
    if path is None:
        return _from_hub(split)
    folder = paths.typed(path)
    names = (f"{split}.jsonl", f"gsm8k_{split}.jsonl")
    for name in names:
        if (folder / name).is_file():
            return read_rows(folder / name)
    raise DataError(f"gsm8k: {path} has neither {' nor '.join(names)}")


def _from_hub(split: str) -> Iterator[FileRow]:
    try:
        yield from hub_rows(HUB, config="main", split=split)
    except DataError as error:
        raise DataError(f"{error}; or give files of it: data.path=FOLDER with train.jsonl and test.jsonl") from error
