"""Run files, and what else `run` is told to read."""

from pathlib import Path

import pytest

from tests.input.kinds import SMALL, Kind, check, run, tabled

GOOD = "recipe: rest_em\nmodel: nano\ndata: sums\npool: 4\nvalid: 2\ntest: 2\nsamples: 1\nmax_new_tokens: 8\n"
FILES: dict[str, tuple[str | bytes, str]] = {
    "a run file of nothing": ("", "must be a mapping"),
    "a run file that is a list": ("- recipe: rest_em\n", "must be a mapping of settings, but is a list"),
    "a run file that is a word": ("rest_em\n", "must be a mapping"),
    "a run file without a recipe": ("model: nano\n", "has no key `recipe`"),
    "a run file whose recipe is a number": ("recipe: 3\n", "recipe must be a name"),
    "a run file that is no YAML": ("recipe: [\n", "is not YAML"),
    "a run file with tabs": ("recipe: rest_em\nsampler:\n\tkind: auto\n", "is not YAML"),
    "a run file in UTF-16": ("recipe: rest_em\n".encode("utf-16"), "cannot be read"),
    "a run file of bytes": (bytes(range(256)), "cannot be read"),
    "a run file with a program in it": ("recipe: !!python/object/apply:os.system [exit]\n", "is not YAML"),
    "a run file with a program as a tag": ("recipe: !!python/name:os.system\n", "is not YAML"),
    "a run file with a misspelt key": (GOOD + "lerning_rate: 1\n", "did you mean learning_rate"),
    "a run file with a misspelt stage": (GOOD + "genrate:\n  n: 2\n", "did you mean generate"),
    "a run file with a misspelt field": (GOOD + "generate:\n  tempratur: 2\n", "did you mean temperature"),
    "a run file with a stage that is a number": (GOOD + "generate: 3\n", "generate is a stage"),
    "a run file with a key twice in one place": (GOOD + "sampler: 3\nsampler.dtype: x\n", "sampler"),
    "a run file with a setting of two kinds": (GOOD + "trainer: 1\ntrainer.optim: sgd\n", "has no place"),
    "a run file with an unknown recipe": (GOOD.replace("rest_em", "rest_emm"), "did you mean rest_em"),
    "a run file with a number for a folder": (GOOD + "out: 3\n", "out=3"),
    "a run file with a zero byte": (GOOD + 'verifier: "a\\0b.py"\n', "zero byte"),
}
KINDS = [
    Kind(name, ("run", "run.yaml", "--dry-run"), said, {"run.yaml": content}, {"run.yaml": GOOD})
    for name, (content, said) in FILES.items()
]
KINDS += [
    Kind("a run file that is not there", ("run", "mine.yaml"), "there is no run file mine.yaml"),
    Kind("a run file that is a folder", ("run", "run.yaml"), "cannot be read", {"run.yaml/": ""}),
    Kind("a recipe that is not there", ("run", "rest_emm", *SMALL), "did you mean rest_em"),
    Kind("a recipe's file that is not there", ("run", "./mine.py", *SMALL), "there is no file ./mine.py"),
    Kind("a recipe's file that is a folder", ("run", "./mine.py", *SMALL), "there is no file", {"mine.py/": ""}),
    Kind("a recipe's name beyond all", ("run", "x" * 5000 + ".py", *SMALL), "File name too long"),
    Kind("a preset that is not there", run("--preset=demoo"), "did you mean demo?"),
    Kind("a word that is no setting", run("rounds"), "write key=value"),
    Kind("a setting without a name", run("=3"), "write key=value"),
    Kind("an option that is not there", run("--nosuch"), "no such option"),
    Kind("hours in words", run("--max-hours=soon"), "--max-hours"),
    Kind("a run folder that is a file", run("--out=file"), "is a file; choose another --out", {"file": ""}),
    Kind("a run folder below a file", run("--out=file/run"), "is a file; choose another --out", {"file": ""}),
    Kind("a run folder's name beyond all", run("--out=" + "x" * 5000), "File name too long"),
    Kind("a run folder that is another's", run("--out=full"), "is not a run of selftrain", {"full/thesis.tex": ""}),
    Kind("a run folder of a newer format", run("--out=new"), "newer selftrain", {"new/run.yaml": "format: 99\n"}),
    Kind("a run folder of no format", run("--out=new"), "does not say its format", {"new/run.yaml": b"\xff\xfe"}),
    Kind("a disk that is too small", run("samples=1000000000"), "ask for fewer rounds"),
    Kind("a model folder that is not there", run("model=./nowhere"), "model folder ./nowhere is not there"),
    Kind("a model's name that is near", run("model=nanno"), "did you mean nano"),
    Kind("a model that is a file", run("model=./file"), "model ./file is a file", {"file": ""}),
]


@tabled(KINDS)
def test_a_run_file_with_a_fault(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check(kind, tmp_path)
