"""Every command but `run`: folders that are no run, ids that don't exist, places that are taken, files with faults."""

from pathlib import Path

import pytest

from selftrain.cli import COMMANDS
from tests.input.kinds import Kind, check, put, tabled
from tests.report.made import make_run

NO_RUN = "is no run of selftrain: it has no run.yaml"
ON_A_RUN: dict[str, tuple[object, ...]] = {
    "status": ("status", "{}"),
    "status as JSON": ("status", "{}", "--json"),
    "explain": ("explain", "{}", "x"),
    "gc": ("gc", "{}"),
    "diff, first": ("diff", "{}", "run"),
    "diff, second": ("diff", "run", "{}"),
    "report": ("report", "{}"),
    "report --serve": ("report", "{}", "--serve"),
    "compare": ("compare", "run", "{}"),
    "export": ("export", "{}", "--to", "new"),
    "export-data": ("export-data", "{}", "--to", "new"),
    "eval --like": ("eval", "nano", "--like", "{}"),
    "reverify": ("reverify", "{}", "--with", "number"),
    "fork": ("fork", "{}", "--from-round", "0", "--out", "new"),
}
KINDS = [
    Kind(f"{name} of {what}", [str(word).format(folder) for word in command], NO_RUN)
    for name, command in ON_A_RUN.items()
    for what, folder in {"what is not there": "nowhere", "a file": "file", "another folder": "full"}.items()
]

LINE = '{"id": "1", "response": "2", "answer": "2"}\n'
KINDS += [
    Kind("runs of what is not there", ("runs", "nowhere"), "say which one holds runs"),
    Kind("runs of a file", ("runs", "file"), "say which one holds runs"),
    Kind("explain without an id", ("explain", "run"), "missing argument 'ID'"),
    Kind("explain of an unknown id", ("explain", "run", "nosuch"), "such as row"),
    Kind("explain of an id with a path", ("explain", "run", "../../etc/passwd"), "holds no row, sample or problem"),
    Kind("explain of an id with SQL", ("explain", "run", "' OR 1=1 --"), "holds no row, sample or problem"),
    Kind("gc by an unknown word", ("gc", "run", "--keep", "bset"), "best,last and every:K"),
    Kind("gc by nothing", ("gc", "run", "--keep", ""), "best,last and every:K"),
    Kind("gc every 0 rounds", ("gc", "run", "--keep", "every:0"), "best,last and every:K"),
    Kind("fork from a round beyond", ("fork", "run", "--from-round", "9", "--out", "new"), "rounds are 0 to 2"),
    Kind("fork from a round below", ("fork", "run", "--from-round", "-1", "--out", "new"), "rounds are 0 to 2"),
    Kind("fork from a round in words", ("fork", "run", "--from-round", "x", "--out", "new"), "--from-round"),
    Kind("fork to a folder", ("fork", "run", "--from-round", "0", "--out", "full"), "fork to a new folder"),
    Kind("fork to a file", ("fork", "run", "--from-round", "0", "--out", "file"), "fork to a new folder"),
    Kind("fork to itself", ("fork", "run", "--from-round", "0", "--out", "run"), "fork to a new folder"),
    Kind("fork below a file", ("fork", "run", "--from-round", "0", "--out", "file/x"), "choose another --out"),
    Kind("fork without a place", ("fork", "run", "--from-round", "0"), "missing option '--out'"),
    Kind("fork with an unknown setting", ("fork", "run", "--from-round", "0", "--out", "new", "sampels=1"), "samples"),
    Kind("diff of one", ("diff", "run"), "missing argument 'second'"),
    Kind("report into a folder", ("report", "run", "--out", "full"), "name an HTML file in it"),
    Kind("report below a file", ("report", "run", "--out", "file/x.html"), "is a file; choose another place"),
    Kind("report where nothing can be", ("report", "run", "--out", "/proc/nowhere/x.html"), "can't be written"),
    Kind("report served into a file", ("report", "run", "--serve", "--out", "x.html"), "--serve writes no file"),
    Kind("report on a port beyond", ("report", "run", "--serve", "--port", "99999"), "--port"),
    Kind("report at a price below 0", ("report", "run", "--price", "-1"), "--price"),
    Kind("report at a price in words", ("report", "run", "--price", "free"), "--price"),
    Kind("compare of one", ("compare", "run"), "two runs or more"),
    Kind("compare of none", ("compare",), "missing argument 'folders'"),
    Kind("compare into a folder", ("compare", "run", "run", "--out", "full"), "name an HTML file in it"),
    Kind("export of a round beyond", ("export", "run", "--to", "new", "--round", "9"), "it has 0, 1, 2"),
    Kind("export of a round in words", ("export", "run", "--to", "new", "--round", "last"), "best or a number"),
    Kind("export of a round in other digits", ("export", "run", "--to", "new", "--round", "²"), "best or a number"),
    Kind("export of a model that is not there", ("export", "run", "--to", "new", "--model", "critic"), "critic"),
    Kind("export to a folder", ("export", "run", "--to", "full"), "export to a new folder"),
    Kind("export below a file", ("export", "run", "--to", "file/x"), "is a file"),
    Kind("export in a dtype nobody knows", ("export", "run", "--to", "new", "--dtype", "float8"), "did you mean float"),
    Kind("export without a place", ("export", "run"), "missing option '--to'"),
    Kind("rows to a folder", ("export-data", "run", "--to", "full"), "export to a new folder"),
    Kind("rows of a round beyond", ("export-data", "run", "--to", "new", "--round", "9"), "it has 0, 1, 2"),
    Kind("rows of no round", ("export-data", "run", "--to", "new", "--round", "0"), "rounds with rows: 1, 2"),
    Kind("rows below a file", ("export-data", "run", "--to", "file/x", "--round", "1"), "is a file"),
    Kind("reverify by an unknown verifier", ("reverify", "run", "--with", "numbr"), "did you mean number"),
    Kind("reverify by cut JSON", ("reverify", "run", "--with", '{"name":'), "is not JSON"),
    Kind("reverify by JSON without a name", ("reverify", "run", "--with", "{}"), 'has no "name"'),
    Kind("reverify by a model's verifier", ("reverify", "run", "--with", "judge"), "--model"),
    Kind("reverify of a round beyond", ("reverify", "run", "--with", "number", "--round", "9"), "it has 0, 1, 2"),
    Kind("reverify into another kind", ("reverify", "run", "--with", "number", "--out", "x.txt"), ".jsonl or .parquet"),
    Kind("reverify below a file", ("reverify", "run", "--with", "number", "--out", "file/x.jsonl"), "can't be written"),
    Kind("verify without a file", ("verify", "number"), "say either --in FILE"),
    Kind("verify with file and check", ("verify", "number", "--in", "in.jsonl", "--check"), "say either --in FILE"),
    Kind("verify of what is not there", ("verify", "number", "--in", "nowhere.jsonl"), "there is no such file"),
    Kind("verify of a folder", ("verify", "number", "--in", "full.jsonl"), "is a folder; name a file in it"),
    Kind("verify into nowhere", ("verify", "number", "--in", "in.jsonl", "--out", "file/x"), "can't be written"),
    Kind("verify into a folder", ("verify", "number", "--in", "in.jsonl", "--out", "full"), "can't be written"),
    Kind("verify by an unknown verifier", ("verify", "numbr", "--in", "in.jsonl"), "did you mean number"),
    Kind(
        "verify by an unknown model", ("verify", "judge", "--in", "in.jsonl", "--model", "nanno"), "did you mean nano"
    ),
    Kind("audit without labels", ("audit", "number", "--labelled", "in.jsonl"), "label"),
    Kind("audit of what is not there", ("audit", "number", "--labelled", "nowhere.jsonl"), "there is no such file"),
    Kind("audit against an unknown", ("audit", "number", "--labelled", "labels.jsonl", "--against", "x"), "unknown"),
    Kind("eval of an unknown model", ("eval", "nanno"), "did you mean nano"),
    Kind("eval against an unknown model", ("eval", "nano", "--against", "nanno"), "did you mean nano"),
    Kind("eval on unknown data", ("eval", "nano", "--data", "sumz"), "did you mean sums?"),
    Kind("eval on train", ("eval", "nano", "--split", "train"), "it can be valid or test"),
    Kind("eval with an unknown setting", ("eval", "nano", "smples=3"), "smples"),
    Kind("eval by both ways", ("eval", "nano", "samples=2", "--lm-eval", "gsm8k"), "no settings, --against or --like"),
    Kind("list of nothing", ("list",), "missing argument 'what'"),
    Kind("list of an unknown word", ("list", "models"), "it can be recipes, verifiers, data or monitors"),
    Kind("new of an unknown kind", ("new", "verifer", "x"), "did you mean verifier?"),
    Kind("new without a name", ("new", "verifier"), "missing argument 'name'"),
    Kind("new by a name with a space", ("new", "verifier", "Bad Name"), "a Python name in small letters"),
    Kind("new by a name with a path", ("new", "verifier", "../x"), "a Python name in small letters"),
    Kind("new by a word of Python's", ("new", "recipe", "class"), "a Python name in small letters"),
    Kind("new by a name that is taken", ("new", "verifier", "number"), "choose another name"),
    Kind("new by a name beyond all", ("new", "data", "a" * 40), "longer than 30 characters"),
    Kind("new into a file", ("new", "verifier", "mine", "--in", "file"), "is a file that is there already"),
    Kind("doctor with a word", ("doctor", "x"), "unexpected extra argument"),
    Kind("doctor with an unknown option", ("doctor", "--dep"), "--deep"),
    Kind("an unknown command", ("rum",), "no such command 'rum'"),
    Kind("an unknown option of all", ("--nosuch",), "no such option"),
]
ROWS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "is empty"),
    "bytes that are no text": (b'{"id": "1", "response": "\xff"}\n', "line 1 is not UTF-8"),
    "a line cut off": (LINE + '{"id": \n', "line 2 is not JSON"),
    "a list for a row": ("[1]\n", "is not a JSON object"),
    "a misspelt response": (LINE.replace("response", "respons"), "did you mean respons?"),
    "a row without an id": (LINE.replace("id", "key"), "has no 'id'"),
    "an id that is a list": (LINE.replace('"1"', "[1]"), "'id' must be a text"),
    "a response that is a number": (LINE.replace('"2"', "2", 1), "'response' must be a text"),
    "a response that is null": (LINE.replace('"2"', "null", 1), "has no 'response'"),
    "an answer that is an object": (LINE.replace('"answer": "2"', '"answer": {}'), "'answer' must be a text"),
    "an answer of thousands of digits": (LINE.replace('"answer": "2"', f'"answer": {"9" * 5000}'), "line 1"),
    "a prompt that is a number": (LINE.replace("{", '{"prompt": 3, '), "'prompt' must be a text or a list"),
    "a prompt by a stranger": (
        LINE.replace("{", '{"prompt": [{"role": "wizard", "content": "x"}], '),
        "it can be system, user, assistant, tool",
    ),
    "meta that is a list": (LINE.replace("{", '{"meta": [1], '), "'meta' must be an object"),
    "one id twice": (LINE * 2, "the id '1' is that of"),
}
VERDICTS = [
    Kind(
        f"a verdict file with {name}",
        ("verify", "number", "--in", "mine.jsonl", "--out", "out.jsonl"),
        said,
        {"mine.jsonl": content},
    )
    for name, (content, said) in ROWS.items()
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a file and another folder; no command of these tests may change it."""
    folder = tmp_path_factory.mktemp("commands")
    make_run(folder / "run")
    put(folder, {"file": "", "full/thesis.tex": "", "full.jsonl/": "", "in.jsonl": LINE})
    put(folder, {"labels.jsonl": LINE.replace("{", '{"label": true, ')})
    return folder


@tabled(KINDS)
def test_a_wrong_command(kind: Kind, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    check(kind, place)


@tabled(VERDICTS)
def test_a_file_to_verify_with_a_fault(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check(kind, tmp_path)


def test_every_command_is_among_them() -> None:
    assert {str(kind.command[0]) for kind in KINDS} >= COMMANDS.keys() - {"run"}
