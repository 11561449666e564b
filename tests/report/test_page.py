"""The report of a run as a file: what it holds, and that nothing in the data can become part of the page."""

import html
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from selftrain import report
from selftrain.after.summary import sentence
from selftrain.loop import controlled
from selftrain.loop.budget import Spent
from selftrain.loop.controlled import Beside, Result
from selftrain.records import Pick, Problem, Sample, Verdict
from selftrain.report import beside, page, verdicts
from selftrain.report.browse import FILTERS, search
from selftrain.report.flow import _steps
from selftrain.report.parts import Grid, Table
from selftrain.report.subset import subset
from selftrain.report.view import View, is_locked
from selftrain.statistics import Estimate
from selftrain.store import Store
from tests.front_door import call, refused
from tests.report.chromium import Browser, Keys, chromium
from tests.report.made import NASTY, make_run

SIZES = [(width, theme) for width in (375, 1000, 1600) for theme in ("light", "dark")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds."""
    return make_run(tmp_path_factory.mktemp("runs") / "nasty <b>run")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one round whose verifier errs, with the audit beside it."""
    by = '{"name": "noisy", "by": "number", "false_positive": 0.4, "false_negative": 0.2}'
    more: dict[str, Any] = {"verify.by": by}
    return make_run(tmp_path_factory.mktemp("runs") / "noisy", rounds=1, **more)


@pytest.fixture(scope="module")
def view(root: Path) -> Iterator[View]:
    """The run, opened."""
    found = View.open(root)
    yield found
    found.close()


@pytest.fixture(scope="module")
def written(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the run, written by the command, outside its folder."""
    out = tmp_path_factory.mktemp("pages") / "page.html"
    before = listing(root)
    answer = call("report", root, "--out", out, "--price", "2.5")
    assert answer.code == 0, answer
    assert "wrote" in answer.out
    assert listing(root) == before
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of this file."""
    with chromium() as found:
        yield found


@pytest.fixture
def shown(browser: Browser, written: Path) -> Browser:
    """The page in the browser, opened anew."""
    browser.open(written.as_uri())
    return browser


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Every file of a folder with its size and time of change."""
    return {
        str(p.relative_to(root)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


class Elements(HTMLParser):
    """Counts the elements of a page, and keeps the scripts' texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.handlers: list[str] = []
        self.links: list[str] = []
        self.data: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "action", "data")]
        self._inside = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.data[self._inside] = self.data.get(self._inside, "") + data


def stored(root: Path, kind: type[Any], names: list[str]) -> list[dict[str, Any]]:
    """All records of a type, with the round, read by the store's own reader."""
    store = Store(root)
    return [
        {"round": number, "stage": folder.name, **row}
        for number in store.rounds()
        for folder in store.stages(number).values()
        for row in folder.columns(kind, names).to_pylist()
    ]


def test_nothing_in_the_data_becomes_part_of_the_page(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    found = Elements(text)
    assert found.tags["script"] == 2 + 1 + len(page.SCRIPTS)
    assert not found.handlers
    assert found.tags["img"] == found.tags["svg"] == found.tags["b"] == 0
    data = json.loads(found.data["data"])
    assert any(NASTY in sample["text"] for sample in data["samples"])
    assert any(NASTY in problem["prompt"] for problem in data["problems"])


def test_without_escapes_it_would(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"name": "", "state": "", "about": "", "verdict": "", "alarms": [], "facts": [], "progress": ""}
    held = subset(view).as_json()
    assert Elements(page.page(title="", head=head, sections=[], data=held)).tags["img"] == 0
    monkeypatch.setattr(page, "as_script", lambda value: Markup(json.dumps(value)))
    sabotaged = Elements(page.page(title="", head=head, sections=[], data=held))
    assert sabotaged.tags["img"] > 0
    assert sabotaged.handlers


def test_it_asks_for_nothing_and_is_small(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in re.search(r"script-src ([^;]*)", policy)[1]  # type: ignore[index]
    assert all(link.startswith(("#", "data:")) for link in Elements(text).links)
    assert written.stat().st_size < 5_000_000


@given(st.text())
def test_json_in_a_script_ends_no_script_and_comes_back(text: str) -> None:
    said = page.as_script({"text": text, "nan": float("nan")})
    assert "<" not in said
    assert ">" not in said
    assert json.loads(said) == {"text": text, "nan": None}
    said.encode()


@given(st.text())
def test_what_has_no_shape_is_named(text: str) -> None:
    seen = page.visible(text)
    assert not page.INVISIBLE.search(seen)
    plain = page.INVISIBLE.sub("", text)
    assert re.sub("\u27e8(U\\+[0-9A-F]{4}|[A-Z0-9]{2,3})\u27e9", "", seen) == re.sub(
        "\u27e8(U\\+[0-9A-F]{4}|[A-Z0-9]{2,3})\u27e9", "", plain
    )
    assert page.visible("a\x1b[31mb\u200bc\u202e") == "a\u27e8ESC\u27e9[31mb\u27e8U+200B\u27e9c\u27e8U+202E\u27e9"


def test_the_head_says_what_the_run_says(root: Path, written: Path, view: View) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", written.read_text(encoding="utf-8")))
    assert sentence(view.run).rstrip(".") in text
    assert "cost at 2.5 an hour" in text
    assert "nasty <b>run" in text


def test_the_flow_adds_up_to_what_is_stored(root: Path, view: View) -> None:
    picks = stored(root, Pick, ["side", "rule"])
    samples = [s for s in stored(root, Sample, ["id"]) if s["stage"] == "generate"]
    for number in (1, 2):
        steps = {name: (on, out) for name, on, out in _steps(view, number)}
        here = [p for p in picks if p["round"] == number]
        dropped = Counter(p["rule"] for p in here if p["side"] == "dropped")
        assert steps["samples: generate"][0] == sum(s["round"] == number for s in samples)
        assert list(steps)[2:6] == [f"select: {rule}" for rule in ("passed", "finished", "distinct", "AtMost(2)")]
        for rule, n in dropped.items():
            assert steps[f"select: {rule}"][1] == n
        assert steps["select: AtMost(2)"][0] == sum(p["side"] == "kept" for p in here) == steps["rows: build"][0]


@pytest.mark.slow
def test_a_sample_in_several_pairs_is_one_sample(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", recipe="iterative_dpo", rounds=1)
    view = View.open(root)
    steps = {name: (on, out) for name, on, out in _steps(view, 1)}
    view.close()
    picks = stored(root, Pick, ["side", "sample"])
    chosen = [p["sample"] for p in picks if p["side"] == "chosen"]
    assert len(chosen) > len(set(chosen)), "no sample is in two pairs: this tests nothing"
    paired = {p["sample"] for p in picks if p["side"] != "dropped"}
    dropped = [p for p in picks if p["side"] == "dropped"]
    assert steps["pair: RightWrong(4)"] == (len(paired), len(dropped))
    assert len(paired) + len(dropped) == steps["samples: generate"][0]
    assert steps["pair: chosen, in pairs"][0] == len(chosen) == steps["rows: build (chosen)"][0]


def test_the_hidden_audit_tells_precision_and_recall(noisy: Path) -> None:
    view = View.open(noisy)
    (grid,) = [part for part in verdicts.section(view).parts if isinstance(part, Grid)]
    view.close()
    table = grid.figures[0].table
    assert table is not None
    told = {row[2]: float(str(row[3]).split()[0]) for row in table.rows}
    said = stored(noisy, Verdict, ["sample", "by", "status"])
    truth = {v["sample"] for v in said if v["stage"] == "audit" and v["status"] == "pass"}
    passed = {v["sample"] for v in said if v["stage"] == "verify" and v["status"] == "pass"}
    assert 0 < len(truth & passed) < len(passed)
    assert told["precision"] == pytest.approx(100 * len(truth & passed) / len(passed), abs=0.06)
    assert told["recall"] == pytest.approx(100 * len(truth & passed) / len(truth), abs=0.06)


def test_gained_and_lost_are_told_by_the_first_and_the_shown_samples(root: Path, view: View) -> None:
    passed = {v["sample"] for v in stored(root, Verdict, ["sample", "status"]) if v["status"] == "pass"}
    solved: dict[str, dict[int, bool]] = {}
    for sample in stored(root, Sample, ["id", "problem"]):
        rounds = solved.setdefault(sample["problem"], {})
        rounds[sample["round"]] = rounds.get(sample["round"], False) or sample["id"] in passed
    words = {(False, True): "gained", (True, False): "lost", (True, True): "kept", (False, False): "unsolved"}
    told = dict(view.database.rows("SELECT id, change FROM given"))
    assert len(told) == len(solved) == 22
    for id, rounds in solved.items():
        until = max(r for r in rounds if r <= view.shown)
        assert told[id] == ("once" if until == min(rounds) else words[rounds[min(rounds)], rounds[until]])


def test_gained_and_lost_problems_are_held_first_and_the_rest_is_told(view: View) -> None:
    moved = {id for id, change in view.database.rows("SELECT id, change FROM given") if change in ("gained", "lost")}
    total = view.database.one("SELECT count(*) FROM attempts")
    assert subset(view).says.startswith(f"All {total:,} samples")
    rounds = len(view.store.rounds())
    few = subset(view, samples=len(moved) * rounds + 4)
    assert moved < {each["id"] for each in few.problems}
    assert few.says.startswith(f"{len(few.samples):,} of {total:,} samples")
    assert f"all {len(moved)} that were gained or lost" in few.says
    none = subset(view, size=10)
    assert (none.problems, none.samples) == ([], [])
    assert none.says.startswith(f"0 of {total:,} samples")


def test_a_search_finds_what_is_stored(root: Path, view: View) -> None:
    passed = {v["sample"] for v in stored(root, Verdict, ["sample", "status"]) if v["status"] == "pass"}
    samples = stored(root, Sample, ["id", "problem", "text"])
    found = search(view, {"status": "pass", "round": "1"})
    assert found.samples == sum(s["id"] in passed and s["round"] == 1 for s in samples)
    assert {p["id"] for p in found.page} == {s["problem"] for s in samples if s["id"] in passed and s["round"] == 1}
    kept = sum(p["side"] == "kept" for p in stored(root, Pick, ["side"]))
    assert search(view, {"side": "kept"}).samples == kept
    assert search(view, {"text": "<SCRIPT>WINDOW"}).samples == len(samples)
    assert search(view, {"text": "%' OR 1=1 --"}).samples == 0
    assert search(view, {"verifier": "number"}).samples == len(samples)
    assert search(view, dict.fromkeys(FILTERS, "")).samples == len(samples)


def test_a_run_that_has_just_begun_and_one_whose_recipe_is_gone_have_a_report(noisy: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.yaml").write_text("format: 1\n")
    text = report.write(begun).read_text(encoding="utf-8")
    assert "Nothing is stored yet" in text
    gone = shutil.copytree(noisy, tmp_path / "gone")
    (gone / "run.yaml").write_text("format: 1\nrecipe: ./gone.py\n")
    text = report.write(gone).read_text(encoding="utf-8")
    assert "recipe could not be loaded" in text.lower()
    assert Elements(text).tags["figure"] > 5


def test_runs_beside_each_other(root: Path, noisy: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    answer = call("compare", root, noisy, "--out", out)
    assert answer.code == 0, answer
    text = html.unescape(re.sub(r"<[^>]+>", " ", out.read_text(encoding="utf-8")))
    assert "noisy - nasty <b>run" in text
    assert re.search(r"rounds\s+2\s+1", text), "the setting that differs"
    data = json.loads(Elements(out.read_text(encoding="utf-8")).data["data"])
    problems = {each["id"] for each in data["problems"]}
    assert problems == {p["id"] for p in stored(root, Problem, ["id", "split"]) if p["split"] == "test"}
    for run in ("nasty <b>run", "noisy"):
        assert {s["given"] for s in data["samples"] if s["stage"].startswith(f"{run}: ")} == problems


def test_the_recipe_beside_its_controls(root: Path, view: View) -> None:
    assert beside.section(view) is None
    spent = Spent(rounds=2, sampled=100, trained=10, rows=12_345, steps={}, kept={}, row=1.0)
    half = Estimate(0.5, 0.4, 0.6, 6)
    recipe = Result(
        name="rest_em", headline="accuracy", folder=".", best=2, last=2, accuracy=half, accuracy_last=half, spent=spent
    )
    control = replace(recipe, name="verifier off", difference=Estimate(0.123, -0.01, 0.2, 6))
    told = Beside(split="test", recipe=recipe, controls=(control,), left_out={"gold_sft": "there is no gold solution"})
    (root / controlled.FILE).write_text(json.dumps(told.as_json()))
    try:
        section = beside.section(view)
    finally:
        (root / controlled.FILE).unlink()
    assert section is not None
    assert [figure.id for figure in section.figures()] == ["controls"]
    text = html.unescape(re.sub(r"<[^>]+>", " ", page.sections_html([section])))
    assert re.search(r"verifier off\s+50.0 % \(40.0 to 60.0\)\s+\+12.3 \(-1.0 to 20.0\)\s+12,345", text)
    assert "gold_sft: left out: there is no gold solution" in text


def test_what_is_wrong_is_said(root: Path, tmp_path: Path) -> None:
    assert "is no run of selftrain" in refused("report", tmp_path / "nothing")
    assert "two runs or more" in refused("compare", root)
    assert "writes no file" in refused("report", root, "--serve", "--out", tmp_path / "x.html")


def test_a_lock_is_seen_without_being_taken(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not is_locked(tmp_path / ".lock")
    with store.lock():
        assert is_locked(tmp_path / ".lock")
    assert not is_locked(tmp_path / ".lock")


def test_numbers_stand_right() -> None:
    table = Table(head=("a", "b", "c"), rows=[("x", "1,200", "+3.0 (1 to 2)"), ("y", "", "-0.1")])
    assert [table.numeric(at) for at in range(3)] == [False, True, True]
    ids = Table(head=("id", "value", "time"), rows=[("32481402bf7b", "6.7 % (2.7 to 10.7)", "2 min")])
    assert [ids.numeric(at) for at in range(3)] == [False, True, True]


def test_in_a_browser_every_chart_is_drawn_and_nothing_is_asked_or_amiss(shown: Browser) -> None:
    shown.js("document.querySelectorAll('#sections details').forEach((each) => { each.open = true; })")
    shown.until(
        lambda: shown.js("return [...document.querySelectorAll('.chart')].every((c) => c.dataset.drawn === 'yes')"),
        "all charts are drawn",
    )
    marks = shown.js(
        "return [...document.querySelectorAll('.chart')].map((c) => [c.dataset.figure,"
        " c.querySelectorAll('svg [class*=mark-] path, svg [class*=mark-] line').length])"
    )
    assert len(marks) > 15
    assert all(count > 3 for _, count in marks), marks
    assert shown.console() == []
    assert {url.partition(":")[0] for url in shown.requests()} <= {"file", "data"}
    assert shown.js("return window.hacked === undefined && document.querySelectorAll('img, b').length === 0")


def test_in_a_browser_the_samples_are_filtered_by_clicks(shown: Browser) -> None:
    every = shown.text("#count")
    shown.choose("#filter-status", "pass")
    shown.choose("#filter-split", "train")
    shown.until(lambda: shown.text("#count") != every, "fewer problems")
    statuses = shown.js("return [...document.querySelectorAll('.alike .card-head .status')].map(e => e.innerText)")
    assert set(statuses) == {"\u2713 pass"}
    notes = shown.js("return [...document.querySelectorAll('#problems .note')].map(e => e.innerText)")
    assert notes
    assert all(note.startswith("train") for note in notes)
    shown.choose("#filter-side", "kept")
    shown.until(lambda: shown.js("return document.querySelectorAll('.card.alike').length") <= 4, "kept ones alone")
    assert "kept: passed all, last AtMost(2)" in shown.text("#problem")
    shown.one("#clear").click()
    shown.until(lambda: shown.text("#count") == every, "all problems again")


def test_in_a_browser_the_samples_are_searched_by_keys(shown: Browser) -> None:
    every = shown.text("#count")
    shown.one("body").send_keys("/")
    assert shown.js("return document.activeElement.id") == "filter-text"
    shown.press("2 make")
    shown.until(lambda: shown.text("#count") != every, "fewer problems")
    assert shown.js("return document.querySelectorAll('#problem mark').length") > 0
    shown.press(Keys.ENTER)
    first = shown.text("#problem h3")
    shown.press(Keys.ARROW_DOWN)
    shown.until(lambda: shown.text("#problem h3") != first, "the next problem")
    assert shown.js("return document.querySelector('#problems [aria-selected=true]').id") == "problem-1"
    shown.press(Keys.ENTER)
    shown.until(lambda: shown.js("return document.activeElement.id") == "problem", "the problem has the focus")
    shown.press(Keys.ESCAPE)
    assert shown.js("return document.activeElement.id") == "problems"
    assert shown.js("return getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_in_a_browser_texts_are_shown_as_they_are(shown: Browser) -> None:
    pre = shown.text("#problem .card pre")
    assert pre.startswith('</script><script>window.hacked=1</script><img src=x onerror="window.hacked=2">')
    assert "\u27e8ESC\u27e9[31mred\u27e8BEL\u27e9 \u27e8U+202E\u27e9back" in pre
    assert "zero\u27e8U+200B\u27e9width" in pre


@pytest.mark.parametrize(
    ("width", "theme"),
    [
        (375, "dark"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in SIZES if each != (375, "dark")),
    ],
)
def test_in_a_browser_it_fits_the_window_and_the_theme(browser: Browser, written: Path, width: int, theme: str) -> None:
    browser.open(written.as_uri(), width=width, theme=theme)
    assert browser.js("return document.documentElement.scrollWidth") <= width
    assert browser.js("return document.documentElement.dataset.theme") == theme
    too_wide = (
        "return [...document.querySelectorAll('.chart svg')].filter(s => s.getBoundingClientRect().right >"
        " s.closest('figure').getBoundingClientRect().right + 1).map(s => s.closest('figure').id)"
    )
    assert browser.js(too_wide) == []
    assert contrast(browser, "#verdict") > 7
    assert contrast(browser, ".about") > 4.5


@pytest.mark.slow
def test_in_a_browser_the_theme_can_be_switched(shown: Browser) -> None:
    before = shown.js("return getComputedStyle(document.body).backgroundColor")
    line = shown.js("return document.querySelector('.chart svg path[stroke^=\"#\"]').getAttribute('stroke')")
    shown.one("#theme").click()
    shown.drawn()
    assert shown.js("return getComputedStyle(document.body).backgroundColor") != before
    assert shown.js("return document.querySelector('.chart svg path[stroke^=\"#\"]').getAttribute('stroke')") != line


def contrast(browser: Browser, selector: str) -> float:
    """Contrast of a text with the page (WCAG 2): 4.5 is enough for texts, 7 is much."""
    colours = browser.js(
        "return [getComputedStyle(document.querySelector(arguments[0])).color,"
        " getComputedStyle(document.body).backgroundColor]",
        selector,
    )
    light = []
    for colour in colours:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        light.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(light) + 0.05) / (min(light) + 0.05)
