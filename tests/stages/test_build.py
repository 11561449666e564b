"""MakeExamples: rows of ids, the prompt without hint or shots, and no rationale that cites a hint. MakePairs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.pairings import RightWrong
from selftrain.records import Pick, Problem, Quarantined, Row, Sample
from selftrain.stages import MakeExamples, MakePairs, MakeSteps, Pair, build
from selftrain.testing import sums
from tests.stages.bench import Bench, sample, verdict

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


def paired(root: Path, statuses: str, margin: float = 0.5, **settings: Any) -> list[Row]:
    """The rows made of the picks that Pair makes of a problem's samples with these verdicts: Right, Wrong, an error."""
    names = {"R": "pass", "W": "fail", "e": "error", "a": "abstain"}
    samples = [sample(TRAIN[0], index, text=f"it is {index}") for index in range(len(statuses))]
    before: dict[str, Any] = {
        "generate": samples,
        "verify": [verdict(each, names[status]) for each, status in zip(samples, statuses, strict=True)],
    }
    picks = Bench(root / "pair", TRAIN).run(Pair(pairing=RightWrong(2)), before)
    picks = [replace(pick, weight=margin) for pick in picks]
    return Bench(root / "build", TRAIN).run(MakePairs(**settings), {**before, "pair": picks})


def test_each_pair_becomes_two_rows_of_its_group(tmp_path: Path) -> None:
    rows = paired(tmp_path, "RWeRW")
    assert [row.kind for row in rows] == ["chosen", "rejected"] * 2
    assert [row.sources[0].rpartition("-")[2] for row in rows] == ["0", "1", "3", "4"]
    assert rows[0].group == rows[1].group != rows[2].group == rows[3].group
    assert len({row.id for row in rows}) == 4
    assert paired(tmp_path / "none", "RRe") == []


@pytest.mark.parametrize(("plain", "suffix"), [(False, "!"), (True, "")])
def test_a_pairs_rows_are_prompt_and_response(tmp_path: Path, plain: bool, suffix: str) -> None:
    chosen, rejected = paired(tmp_path, "WR", plain=plain)
    assert text(chosen.segments[0].ids) == text(rejected.segments[0].ids) == f"user: {TRAIN[0].text}{suffix}\n"
    assert [part.train for part in chosen.segments] == [False, True]
    assert text(chosen.segments[1].ids) == "it is 1\0"
    assert text(rejected.segments[1].ids) == "it is 0\0"


@pytest.mark.parametrize(("weighted", "weight"), [(False, 1.0), (True, 0.25)])
def test_a_pair_weighs_its_margin_where_asked(tmp_path: Path, weighted: bool, weight: float) -> None:
    assert [row.weight for row in paired(tmp_path, "WR", 0.25, weighted=weighted)] == [weight] * 2


GOES_ON = Problem.of(
    TRAIN[0].prompt, kind="continuation", verifier="", parent=TRAIN[0].id, plain=True, prefix="0+0=1\nno: "
)


def own(root: Path, given: list[Any], **changes: Any) -> list[Any]:
    """Build rows whose loss leaves out what was given, of responses to the problem that goes on from a prefix."""
    picks = [Pick(sample=s.id, problem=s.problem, side="kept", rule="passed") for s in given if type(s) is Sample]
    return Bench(root, TRAIN).run(MakeExamples(learn="own", **changes), {"go-on": [GOES_ON, *given], "select": picks})


def test_what_was_given_of_a_response_is_left_out_of_the_loss_as_sampled_and_encoded_again(tmp_path: Path) -> None:
    whole = GOES_ON.prefix + "0"
    ids = (*map(ord, whole), 0)
    sampled = sample(GOES_ON, text=whole, completion_ids=ids, prefix=len(GOES_ON.prefix))
    put_together = sample(GOES_ON, 1, text=whole, completion_ids=(), tokenizer="")
    adopted = replace(sampled, id="adopted", problem=TRAIN[0].id, template="adopted")
    for row in own(tmp_path, [sampled, put_together, adopted]):
        prompt, completion = row.segments
        assert text(prompt.ids).endswith("\n" + GOES_ON.prefix)
        assert (text(completion.ids), prompt.train, completion.train) == ("0\0", False, True)
    (plain,) = own(tmp_path / "plain", [sample(TRAIN[0], text="0")])
    assert text(plain.segments[1].ids) == "0\0"


def test_a_response_whose_own_part_is_unknown_or_empty_is_no_row(tmp_path: Path) -> None:
    elsewhere = sample(TRAIN[0], text="0+0=0", tokenizer="other", prefix=3)
    nothing = sample(GOES_ON, text="0", completion_ids=(49, 0), prefix=2)
    other = sample(GOES_ON, 1, text="begins otherwise", completion_ids=(), tokenizer="")
    assert [type(each) for each in own(tmp_path, [elsewhere, nothing, other])] == [Quarantined] * 3


def stepped(root: Path, text: str, scores: tuple[float, ...], **settings: Any) -> list[Any]:
    one = sample(TRAIN[0], text=text)
    said = [replace(verdict(one, "scored"), by="process", step_scores=scores)]
    return Bench(root, TRAIN).run(MakeSteps(model="policy", **settings), {"generate": [one], "verify": said})


def test_a_scored_step_is_a_segment_with_its_label(tmp_path: Path) -> None:
    (row,) = stepped(tmp_path, "one\ntwo\nthree", (0.9, 0.25, 1.5))
    prompt, *steps = row.segments
    # Without the run's instructions: so the verifier asks.
    assert (text(prompt.ids), prompt.train) == (f"user: {TRAIN[0].text}\n", False)
    assert [text(step.ids) for step in steps] == ["one\n", "two\n", "three\n"]
    assert all(step.train for step in steps)
    assert row.labels == (0.9, 0.25, 1.0)


def test_steps_are_cut_as_the_verifier_cuts_them(tmp_path: Path) -> None:
    (row,) = stepped(tmp_path, "one. two. three", (0.9, 0.2, 0.1), steps=r"\. ")
    assert [text(step.ids) for step in row.segments[1:]] == ["one. ", "two. ", "three"]


def test_scores_of_other_steps_are_quarantined_and_samples_without_scores_left_out(tmp_path: Path) -> None:
    (lost,) = stepped(tmp_path / "a", "one\ntwo", (0.9,))
    assert isinstance(lost, Quarantined)
    assert "2 steps have 1 scores" in lost.why
    assert stepped(tmp_path / "b", "one\ntwo", ()) == []
    assert stepped(tmp_path / "c", "one\ntwo", (0.5, 0.5), by="another") == []
