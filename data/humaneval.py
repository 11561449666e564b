"""HumanEval (Chen et al. 2021, arXiv:2107.03374): 164 Python functions to write, each with tests.

From the hub (`openai/openai_humaneval`), or from a file of the same rows: `path` is HumanEval.jsonl, HumanEval.jsonl.gz
or a folder with one of them. It has no splits of its own: they are cut from the 164 by the hash of their content.
`humaneval.jsonl` holds 8 rows for tests (MIT, see humaneval.LICENSE), among them those whose tests call a helper
function of the prompt.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from selftrain import paths
from selftrain.backends.hub import hub_rows
from selftrain.datafiles import FileRow, read_rows
from selftrain.errors import DataError
from selftrain.problems import divide, unique
from selftrain.records import Problem

natural = True
HUB = "openai/openai_humaneval"
INSTRUCTION = "Complete this Python function. Write the whole function in one ```python block."
_FIELDS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
_NAMES = ("HumanEval.jsonl", "HumanEval.jsonl.gz")


def load(
    *, train: int, valid: int, test: int, seed: int, path: str | None = None, instruction: str = INSTRUCTION
) -> Mapping[str, Sequence[Problem]]:
    """Return problems; `instruction` stands before the function's head, and may be empty."""
    rows = _from_hub() if path is None else _from_file(paths.typed(path))
    problems = unique((row.where, problem(row, instruction=instruction)) for row in rows)
    return divide("humaneval", problems, {"train": train, "valid": valid, "test": test}, seed=seed)


def bundled() -> Sequence[Problem]:
    """Return the 8 bundled problems."""
    return [problem(row) for row in read_rows(Path(__file__).with_suffix(".jsonl"))]


def problem(row: FileRow, *, instruction: str = INSTRUCTION) -> Problem:
    """Make a problem of a row."""
    values = {name: row.values.get(name) for name in _FIELDS}
    missing = [name for name, value in values.items() if not isinstance(value, str)]
    if missing:
        raise DataError(f"{row.where} is no row of HumanEval: it has no {', '.join(missing)}")
    name, prompt, solution, tests, entry = (str(values[name]) for name in _FIELDS)
    return Problem.of(
        f"{instruction}\n\n{prompt}" if instruction else prompt,
        solution=f"```python\n{prompt}{solution.rstrip()}\n```",
        tests=tests,
        verifier="python_tests",
        meta={"task_id": name, "entry_point": entry, "prompt": prompt},
    )


def _from_hub() -> Iterator[FileRow]:
    try:
        yield from hub_rows(HUB, split="test")
    except DataError as error:
        raise DataError(f"{error}; or give a file of it: data.path=HumanEval.jsonl.gz") from error


def _from_file(path: Path) -> Iterator[FileRow]:
    if path.is_dir():
        found = [path / name for name in _NAMES if (path / name).is_file()]
        if not found:
            raise DataError(f"humaneval: {path} has neither {' nor '.join(_NAMES)}")
        path = found[0]
    return _zipped(path) if path.suffix == ".gz" else read_rows(path)


def _zipped(path: Path) -> Iterator[FileRow]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                values = json.loads(line)
                if not isinstance(values, dict):
                    raise DataError(f"{path} line {number} is not a JSON object")
                yield FileRow(f"{path} line {number}", values)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} can't be read as zipped JSON lines: {error}") from error
