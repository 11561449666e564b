"""Judge a run's stored samples again, without sampling: `selftrain reverify`.

The run is only read, and only its finished shards, which never change: it can go on meanwhile. The verifier sees the
gold answers, also where the run's own stage was blind.
"""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from selftrain import tables
from selftrain.errors import ConfigError, DataError, StoreError
from selftrain.records import Problem, Sample, Verdict
from selftrain.round import PROBLEMS
from selftrain.store import StageFolder, Store
from selftrain.verification.reverified import Compared, Place, Reverified
from selftrain.verification.verify_file import opened

if TYPE_CHECKING:
    from selftrain.backends.pool import VerifierPool
    from selftrain.loop.controller import Watcher

STAGE = "reverify"


def reverify(
    root: Path,
    spec: str,
    *,
    round: int | None = None,
    out: Path | None = None,
    model: str | None = None,
    watcher: "Watcher | None" = None,
) -> Reverified:
    """Judge the stored samples of a run, or of one round of it; all verdicts go to `out`, JSONL or Parquet.

    `model` is whom the verifier may ask, by name, folder or hub id.
    Raises StoreError for a folder that is no run, PluginError for a verifier that isn't there.
    """
    from selftrain.backends.asked import asked_model
    from selftrain.backends.pool import VerifierPool

    started = time.monotonic()
    store = _run(root, round, out)
    stages = [
        (number, folder)
        for number in store.rounds()
        if round in (None, number)
        for folder in store.stages(number).values()
        if folder.files(Sample)
    ]
    compared: dict[Place, Compared] = {}
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    with asked_model(model) as asked, VerifierPool(model=asked) as pool, _sink(out) as sink:
        pool.describe(spec)
        if watcher is not None:
            watcher.begin(STAGE, sum(folder.count(Sample) for _, folder in stages), 0)
        for shard in _judged(store, pool, spec, stages, watcher):
            sink.write(shard.round, shard.stage, [(sample, shard.verdicts[sample.id]) for sample in shard.samples])
            for sample in shard.samples:
                after = shard.verdicts[sample.id]
                counts[after.status] += 1
                if after.status in ("error", "timeout"):
                    first.setdefault(after.status, f"{sample.id}: {after.why}")
                place = Place(shard.round, shard.stage, shard.problems[sample.problem].split, "")
                _compare(compared, place, sample, shard.before, after)
    seconds = time.monotonic() - started
    if watcher is not None:
        watcher.end(STAGE, f"{counts.total()} samples, {seconds:.0f} s")
    return Reverified(
        by=spec, root=str(root), compared=tuple(compared.values()), seconds=seconds, counts=dict(counts), first=first
    )


class _Shard(NamedTuple):
    """A shard's samples with their problems, and what was and is said of them."""

    round: int
    stage: str
    samples: Sequence[Sample]
    problems: Mapping[str, Problem]
    verdicts: Mapping[str, Verdict]
    before: Mapping[str, Mapping[str, Verdict]]
    """Stage -> its verdicts by sample."""


def _judged(
    store: Store,
    pool: "VerifierPool",
    spec: str,
    stages: Sequence[tuple[int, StageFolder]],
    watcher: "Watcher | None",
) -> Iterator[_Shard]:
    """Judge the stages' finished shards, one after the other."""
    for number, folder in stages:
        for shard in folder.shards():
            samples = folder.read(Sample, shard)
            problems = _problems(store, number, shard, samples)
            said: dict[str, Verdict] = {}
            for verdict in pool.verify(spec, [(problems[sample.problem], sample) for sample in samples]):
                said[verdict.sample] = verdict
                if watcher is not None:
                    watcher.advance(STAGE, 1)
            stored = {each.name: each.read(Verdict, shard) for each in store.stages(number).values()}
            before = {name: {verdict.sample: verdict for verdict in verdicts} for name, verdicts in stored.items()}
            yield _Shard(number, folder.name, samples, problems, said, before)


class _Sink(Protocol):
    def write(self, round: int, stage: str, judged: Sequence[tuple[Sample, Verdict]]) -> None:
        """Take the verdicts of a shard."""


class _Nowhere:
    def write(self, round: int, stage: str, judged: Sequence[tuple[Sample, Verdict]]) -> None:
        """Nobody asked for them."""


class _Lines:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, round: int, stage: str, judged: Sequence[tuple[Sample, Verdict]]) -> None:
        for sample, verdict in judged:
            line = {"round": round, "stage": stage, "problem": sample.problem, **asdict(verdict)}
            self._file.write(json.dumps(line) + "\n")


class _Table:
    """A Parquet file: the columns of Verdict, and where its sample is from."""

    PLACE = (("round", pa.int64()), ("stage", pa.string()), ("problem", pa.string()))

    def __init__(self, path: Path) -> None:
        place = [pa.field(name, kind, nullable=False) for name, kind in self.PLACE]
        self._schema = pa.schema([*place, *tables.schema(Verdict)])
        self.writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, round: int, stage: str, judged: Sequence[tuple[Sample, Verdict]]) -> None:
        table = tables.to_table(Verdict, [verdict for _, verdict in judged])
        place: Sequence[list[Any]] = (
            [round] * len(judged),
            [stage] * len(judged),
            [sample.problem for sample, _ in judged],
        )
        for at, values in enumerate(place):
            table = table.add_column(at, self._schema.field(at), pa.array(values, self._schema.field(at).type))
        self.writer.write_table(table)


@contextlib.contextmanager
def _sink(out: Path | None) -> Iterator[_Sink]:
    """Open what takes the verdicts; a file appears when all is judged."""
    if out is None:
        yield _Nowhere()
    elif out.suffix == ".jsonl":
        with opened(out) as file:
            assert file is not None
            yield _Lines(file)
    else:
        partial = out.with_name(out.name + ".partial")
        try:
            table = _Table(partial)
        except OSError as error:
            raise DataError(f"{out} can't be written: {error.strerror or error}") from error
        try:
            with table.writer:
                yield table
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)


def _run(root: Path, round: int | None, out: Path | None) -> Store:
    """Return the run's store; raises a UserError for what can't be done with it."""
    store = Store.open(root)
    if round is not None and round not in store.rounds():
        raise StoreError(f"{root} has no round {round}; it has {', '.join(map(str, store.rounds())) or 'none'}")
    if out is not None and out.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"--out {out} must end in .jsonl or .parquet")
    if out is not None and out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"--out {out} lies in the run's folder, which is only read; choose a place outside of it")
    return store


def _problems(store: Store, round: int, shard: int, samples: Sequence[Sample]) -> dict[str, Problem]:
    """Return the samples' problems: the run's own, and those that stages have made up to this round."""
    own = store.stage(0, 0, PROBLEMS)
    makers = [f for number in store.rounds() if number <= round for f in store.stages(number).values()]
    found = {problem.id: problem for folder in (own, *makers) for problem in folder.read(Problem, shard)}
    if any(sample.problem not in found for sample in samples):
        # A stage over the whole round writes all its samples into its one shard.
        found |= {p.id: p for folder in (own, *makers) for each in folder.shards() for p in folder.read(Problem, each)}
    missing = next((sample for sample in samples if sample.problem not in found), None)
    if missing is not None:
        what = f"sample {missing.id} is of problem {missing.problem}"
        raise StoreError(f"{store.root}: {what}, which no stage has stored")
    return found


def _compare(
    compared: dict[Place, Compared],
    place: Place,
    sample: Sample,
    before: Mapping[str, Mapping[str, Verdict]],
    after: Verdict,
) -> None:
    judges = {name: verdicts[sample.id] for name, verdicts in before.items() if sample.id in verdicts}
    for name in judges or ("",):
        where = place._replace(judge=name)
        compared.setdefault(where, Compared(where)).add(sample, judges.get(name), after)
