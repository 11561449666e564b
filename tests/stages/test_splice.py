"""Splice: responses put together from others, each to a problem that begins with what is given."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from selftrain.records import Problem, Sample
from selftrain.round import Attempt
from selftrain.stages.splice import Splice, Spliced
from selftrain.testing import sums
from tests.stages.bench import Bench, sample

TRAIN = sums(2)


def after_one_another(attempts: Sequence[Attempt]) -> Iterable[Spliced]:
    first, *others = attempts
    for each in others:
        yield Spliced(first.sample.text + "; ", each.sample.text, (first, each))


def test_a_response_begins_with_what_is_given_and_is_of_the_given_problem(tmp_path: Path) -> None:
    again = Problem.of("again?", kind="revision", verifier="", parent=TRAIN[0].id, plain=True)
    tried = [sample(TRAIN[0], text="one"), sample(TRAIN[0], 1, text="two"), sample(TRAIN[1], text="alone")]
    revised = sample(again, text="three")
    made = Bench(tmp_path, TRAIN).run(
        Splice(how=after_one_another, of=("generate", "revise")),
        {"ask-again": [again], "generate": tried, "revise": [revised]},
    )
    problems = [each for each in made if type(each) is Problem]
    samples = [each for each in made if type(each) is Sample]
    assert [s.text for s in samples] == ["one; two", "one; three"]
    assert [s.parents for s in samples] == [(tried[0].id, tried[1].id), (tried[0].id, revised.id)]
    assert [s.problem for s in samples] == [p.id for p in problems]
    for problem in problems:
        # Rendered by the protocol once, and judged as the given problem is.
        assert problem.prompt == ({"role": "user", "content": f"{TRAIN[0].text}!"},)
        assert (problem.prefix, problem.parent, problem.plain, problem.verifier) == ("one; ", TRAIN[0].id, True, "")


def test_equal_beginnings_are_one_problem_and_responses_stay_apart(tmp_path: Path) -> None:
    def twice(attempts: Sequence[Attempt]) -> Iterable[Spliced]:
        return [Spliced("a", rest, (attempts[0],)) for rest in "bc"]

    made = Bench(tmp_path, TRAIN[:1]).run(Splice(how=twice, of=("generate",)), {"generate": [sample(TRAIN[0])]})
    assert [type(each) for each in made] == [Problem, Sample, Sample]
    assert len({each.id for each in made}) == 3
