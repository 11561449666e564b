"""MakeExamples: rows of ids, the prompt without hint or shots, and no rationale that cites a hint. MakePairs."""

from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import RecipeError
from selftrain.records import Checkpoint, Pick, Quarantined, Row, Sample
from selftrain.stages import MakeExamples, MakePairs, build
from selftrain.testing import sums
from tests.stages.bench import BASE, Bench, sample, verdict

TRAIN = sums(2)


def built(root: Path, samples: list[Sample], side: Any = "kept", weight: float = 1.0) -> list[Any]:
    picks = [Pick(sample=s.id, problem=s.problem, side=side, rule="passed", weight=weight) for s in samples]
    return Bench(root, TRAIN).run(MakeExamples(), {"generate": samples, "select": picks})


def text(ids: tuple[int, ...]) -> str:
    return "".join(map(chr, ids))


def test_a_row_is_the_prompt_and_the_ids_as_sampled(tmp_path: Path) -> None:
    one = sample(TRAIN[0], text="it is 0")
    (row,) = built(tmp_path, [one], weight=2.5)
    prompt, completion = row.segments
    assert (text(prompt.ids), prompt.train) == (f"user: {TRAIN[0].text}!\n", False)
    assert (completion.ids, completion.train) == (one.completion_ids, True)
    assert (row.kind, row.weight, row.sources, row.reencoded) == ("example", 2.5, (one.id,), False)


@pytest.mark.parametrize("side", ["dropped", "rejected", "chosen"])
def test_only_what_was_kept_becomes_a_row(tmp_path: Path, side: str) -> None:
    assert built(tmp_path, [sample(TRAIN[0])], side) == []


def test_ids_of_another_tokenizer_are_made_anew_and_the_row_says_so(tmp_path: Path) -> None:
    (row,) = built(tmp_path, [sample(TRAIN[0], text="it is 0", tokenizer="other", completion_ids=(7, 8))])
    assert row.segments[1].ids == (*map(ord, "it is 0"), 0)
    assert row.reencoded


def test_a_gold_solution_is_encoded_and_ended(tmp_path: Path) -> None:
    gold = sample(TRAIN[0], text="0+0=0", tokenizer="", completion_ids=(), finish="gold", model="gold")
    (row,) = built(tmp_path, [gold])
    assert row.segments[1].ids == (*map(ord, "0+0=0"), 0)


def test_a_stop_string_gets_the_end_token_and_a_cut_off_one_does_not(tmp_path: Path) -> None:
    ids = tuple(map(ord, "abc"))
    stopped, cut = built(
        tmp_path, [sample(TRAIN[0], completion_ids=ids), sample(TRAIN[1], completion_ids=ids, finish="length")]
    )
    assert stopped.segments[1].ids == (*ids, 0)
    assert cut.segments[1].ids == ids


HINTED = tuple(map(ord, f"user: {TRAIN[0].text}!\n(The answer is 0.)\n"))


def rows_of(root: Path, said: str) -> list[Any]:
    return built(root, [sample(TRAIN[0], text=said, template="hint", prompt_ids=HINTED)])


def test_the_prompt_of_a_hinted_row_has_no_hint(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "0 and 0 make 0")
    assert text(row.segments[0].ids) == f"user: {TRAIN[0].text}!\n"
    assert "answer is" not in "".join(text(s.ids) for s in row.segments)


CITING = [
    "Since the given answer is 0, we are done: 0",
    "As given, 0",
    "The hint says 0",
    "The answer was provided, so 0",
    "We know from the provided answer that it is 0",
    "(The answer is 0.)",
]


@pytest.mark.parametrize("said", CITING)
def test_a_hinted_sample_that_cites_the_answer_never_becomes_a_row(
    tmp_path: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = rows_of(tmp_path / "sound", said)
    assert isinstance(found, Quarantined)
    assert found.why == "the rationale cites the hint"
    # Sabotage: without the look at what it cites, the very same sample is trained on.
    monkeypatch.setattr(build, "cites_hint", lambda text: False)
    (found,) = rows_of(tmp_path / "sabotaged", said)
    assert isinstance(found, Row)
    assert said in "".join(text(s.ids) for s in found.segments)


def test_without_a_hint_such_words_are_the_problems_own(tmp_path: Path) -> None:
    (row,) = built(tmp_path, [sample(TRAIN[0], text=CITING[0])])
    assert isinstance(row, Row)


def paired(root: Path, statuses: str, **settings: Any) -> list[Row]:
    """The rows made of a problem's samples with these verdicts: Right, Wrong, an error, abstained."""
    names = {"R": "pass", "W": "fail", "e": "error", "a": "abstain"}
    samples = [sample(TRAIN[0], index, text=f"it is {index}") for index in range(len(statuses))]
    verdicts = [verdict(each, names[status]) for each, status in zip(samples, statuses, strict=True)]
    bench = Bench(root, TRAIN)
    bench.rounds[0].checkpoints["reward"] = Checkpoint(id="base", path=BASE.path, role="reward", base="base")  # type: ignore[index]
    return bench.run(MakePairs(**settings), {"generate": samples, "verify": verdicts})


def meetings(rows: list[Row]) -> list[tuple[str, str]]:
    """Which samples a list of pairs brings together, by their indices."""
    assert [row.kind for row in rows] == ["chosen", "rejected"] * (len(rows) // 2)
    assert all(a.group == b.group for a, b in zip(rows[::2], rows[1::2], strict=True))
    return [
        (a.sources[0].rpartition("-")[2], b.sources[0].rpartition("-")[2])
        for a, b in zip(rows[::2], rows[1::2], strict=True)
    ]


@pytest.mark.parametrize(
    ("statuses", "most", "wanted"),
    [
        ("RWeaW", 4, [("0", "1"), ("0", "4")]),
        ("RRWW", 3, [("0", "2"), ("1", "3"), ("0", "3")]),
        ("RRWW", 9, [("0", "2"), ("1", "3"), ("0", "3"), ("1", "2")]),
        ("RRR", 4, []),
        ("WeW", 4, []),
    ],
)
def test_pairs_go_round_both_sides(tmp_path: Path, statuses: str, most: int, wanted: list[tuple[str, str]]) -> None:
    assert meetings(paired(tmp_path, statuses, most=most)) == wanted


def test_every_pair_is_made_once(tmp_path: Path) -> None:
    for right, wrong in ((2, 4), (3, 3), (4, 6), (5, 1)):
        found = meetings(paired(tmp_path / f"{right}{wrong}", "R" * right + "W" * wrong, most=99))
        assert len(set(found)) == len(found) == right * wrong


def test_a_pairs_rows_are_prompt_and_response(tmp_path: Path) -> None:
    chosen, rejected = paired(tmp_path, "WR")
    # As the verifier asks a reward model: without the run's suffix.
    assert text(chosen.segments[0].ids) == f"user: {TRAIN[0].text}\n"
    assert text(chosen.segments[1].ids) == "it is 1\0"
    assert text(rejected.segments[1].ids) == "it is 0\0"
    assert len({chosen.id, rejected.id}) == 2
    with pytest.raises(RecipeError, match="most is 0"):
        MakePairs(most=0)
