"""Generate and Gold: what is asked, what comes back, what could not be asked."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selftrain.backends.models import resolve
from selftrain.backends.tokens import Tokenizer
from selftrain.errors import RecipeError
from selftrain.lab import Completion, Request
from selftrain.recipe import FromData, Model, check_stages
from selftrain.records import Problem, Quarantined, Sample
from selftrain.stages import Generate, Gold
from selftrain.templates import Shot
from selftrain.testing import FakeBackends, FakeSampler, adds, sums
from tests.stages.bench import Bench, answers, sample, verdict

TRAIN = sums(3)


def test_n_samples_a_problem_in_order_with_what_was_sampled(tmp_path: Path) -> None:
    found = Bench(tmp_path, TRAIN).run(Generate(n=2, temperature=0.5))
    assert [(s.problem, s.index) for s in found] == [(p.id, i) for p in TRAIN for i in range(2)]
    assert len({s.id for s in found}) == 6
    for each in found:
        assert each.completion_ids == (*map(ord, each.text), 0)
        assert (each.model, each.template, each.finish, each.tokenizer) == ("base", "direct", "stop", "fake-tokens")
        assert each.settings == {"temperature": 0.5, "top_p": 1.0, "top_k": 0}


def test_the_same_again_gives_the_same(tmp_path: Path) -> None:
    one, two = (Bench(tmp_path / name, TRAIN).run(Generate(n=4)) for name in "ab")
    assert one == two
    # And the samples of one problem are not copies of one another.
    other = Bench(tmp_path / "c", TRAIN).run(Generate(n=4, name="second"))
    assert [s.text for s in one] != [s.text for s in other]


def test_the_prompt_is_the_runs_own_with_its_suffix(tmp_path: Path) -> None:
    (first, *_) = Bench(tmp_path, TRAIN).run(Generate(n=1))
    assert "".join(map(chr, first.prompt_ids)) == f"user: {TRAIN[0].text}!\n"


def test_a_hint_is_in_the_prompt_and_the_sample_says_so(tmp_path: Path) -> None:
    stage = Generate(n=1, template="hint")
    (first, *_) = Bench(tmp_path, TRAIN).run(stage)
    assert "".join(map(chr, first.prompt_ids)).endswith(f"(The answer is {TRAIN[0].answer}.)\n")
    assert first.template == "hint"
    assert stage.gold
    assert not Generate().gold


def test_a_problem_without_an_answer_has_no_hint_and_the_others_go_on(tmp_path: Path) -> None:
    found = Bench(tmp_path, [replace(TRAIN[0], answer=None), *TRAIN[1:]]).run(Generate(n=2, template="hint"))
    assert [(q.problem, q.index) for q in found if isinstance(q, Quarantined)] == [(TRAIN[0].id, 0), (TRAIN[0].id, 1)]
    assert {"no answer to give as a hint" in q.why for q in found if isinstance(q, Quarantined)} == {True}
    assert [s.problem for s in found if isinstance(s, Sample)] == [p.id for p in TRAIN[1:] for _ in range(2)]


def test_shots_come_before_the_problem(tmp_path: Path) -> None:
    stage = Generate(n=1, template="few-shot", shots=(Shot(prompt="1+2=", response="it is 3"),))
    (first, *_) = Bench(tmp_path, TRAIN).run(stage)
    assert "".join(map(chr, first.prompt_ids)) == f"user: 1+2=!\nassistant: it is 3\nuser: {TRAIN[0].text}!\n"


def test_unsolved_are_those_for_which_nothing_passed(tmp_path: Path) -> None:
    samples = [sample(p) for p in TRAIN]
    said = ["pass", "fail", "error"]
    before: dict[str, Sequence[Any]] = {
        "generate": samples,
        "verify": [verdict(s, v) for s, v in zip(samples, said, strict=True)],
    }
    found = Bench(tmp_path, TRAIN).run(Generate(name="again", n=1, only="unsolved"), before)
    assert [s.problem for s in found] == [p.id for p in TRAIN[1:]]


def test_a_prompt_that_fills_the_context_is_quarantined_and_counted(tmp_path: Path) -> None:
    long = replace(TRAIN[0], id="long", prompt=({"role": "user", "content": "1" * 1990 + "+1="},))
    bench = Bench(tmp_path, [long, TRAIN[1]])
    found = bench.run(Generate(n=2))
    refused = [each for each in found if type(each) is Quarantined]
    assert [(q.problem, q.index) for q in refused] == [("long", 0), ("long", 1)]
    assert "the model's context 2000" in refused[0].why
    assert [s.problem for s in found if type(s) is Sample] == [TRAIN[1].id] * 2
    assert len(bench.backends.samplers[0].requests) == 2


def test_an_empty_completion_is_quarantined(tmp_path: Path) -> None:
    def silent(prompt: str, skill: float, stream: Random) -> str:
        return "  \n" if "0+1" in prompt else answers(prompt, skill, stream)

    found = Bench(tmp_path, TRAIN, FakeBackends(silent)).run(Generate(n=1))
    assert [type(each) for each in found] == [Sample, Quarantined, Sample]
    assert found[1].why == "the completion is empty"


def test_what_reaches_the_limit_is_marked(tmp_path: Path) -> None:
    found = Bench(tmp_path, TRAIN).run(Generate(n=1, max_new_tokens=3))
    assert {s.finish for s in found} == {"length"}
    assert {len(s.completion_ids) for s in found} == {3}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n": 0}, "n is 0"),
        ({"template": "hnt"}, "did you mean hint"),
        ({"share": -0.1}, "share is -0.1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_k": -1}, "top_k is -1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Generate(**changes)


def test_a_recipe_that_asks_for_examples_has_some() -> None:
    with pytest.raises(RecipeError, match="needs shots"):
        check_stages([Generate(template="few-shot")], {"policy": Model()})
    check_stages([Generate(template="few-shot", shots=FromData("shots"))], {"policy": Model()})


def test_examples_found_in_the_data_are_shown_and_may_be_none(tmp_path: Path) -> None:
    stage = Generate(name="again", n=1, template="few-shot", shots=FromData("shots"))
    shown = stage.resolved({"shots": [{"prompt": "1+2=", "response": "it is 3"}]})
    assert shown == Generate(name="again", n=1, template="few-shot", shots=(Shot(prompt="1+2=", response="it is 3"),))
    plain = Bench(tmp_path, TRAIN).run(stage.resolved({"shots": []}))
    assert plain[0].prompt_ids == Bench(tmp_path / "plain", TRAIN).run(Generate(n=1))[0].prompt_ids


def test_a_share_of_the_problems_is_the_same_share_for_every_stage(tmp_path: Path) -> None:
    many = sums(60)
    one, two = (
        Bench(tmp_path / name, many).run(Generate(name=name, n=1, share=0.4, temperature=temperature))
        for name, temperature in (("cool", 0.5), ("hot", 1.0))
    )
    assert [s.problem for s in one] == [s.problem for s in two]
    assert 12 < len(one) < 36


def test_gold_solutions_enter_as_samples(tmp_path: Path) -> None:
    found = Bench(tmp_path, [*TRAIN[:2], replace(TRAIN[2], solution=None)]).run(Gold())
    assert [type(each) for each in found] == [Sample, Sample, Quarantined]
    assert (found[0].text, found[0].finish, found[0].model) == (TRAIN[0].solution, "gold", "gold")
    assert found[0].completion_ids == ()


def test_a_share_of_gold_is_the_same_share_every_time(tmp_path: Path) -> None:
    many = sums(200)
    one, two = (Bench(tmp_path / name, many).run(Gold(share=0.3)) for name in "ab")
    assert one == two
    assert 35 < len(one) < 85
    with pytest.raises(RecipeError, match="between 0 and 1"):
        Gold(share=1.5)


class NanoTokens(FakeBackends):
    """Answers by a function, with the bundled model's own tokenizer."""

    def __init__(self) -> None:
        super().__init__(lambda prompt, skill, stream: "")
        self.tokenizer = Tokenizer(resolve("nano"))

    def tokens(self, checkpoint: Path) -> Tokenizer:  # type: ignore[override]
        return self.tokenizer

    def sampler(self, checkpoint: Path) -> FakeSampler:
        tokenizer = self.tokenizer

        class Sampler(FakeSampler):
            """Says what 7+5 is, and ends."""

            def sample(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
                for request in requests:
                    self.requests.append(request)
                    ids = (*tokenizer.encode("21\n#### 21"), tokenizer.end)
                    yield Completion(id=request.id, ids=ids, text="21\n#### 21", finish="stop")

        self.samplers.append(Sampler(checkpoint, self.answer))
        return self.samplers[-1]


def test_what_goes_on_from_a_prefix_has_the_prefix_in_its_text_and_its_ids(tmp_path: Path) -> None:
    prefix = "7+5+9="
    problem = Problem.of("What is 7+5+9?", kind="continuation", parent=TRAIN[0].id, about=("first",), prefix=prefix)
    plain = replace(problem, id="plain", prefix="")
    bench = Bench(tmp_path, TRAIN, NanoTokens())
    tokens = bench.backends.tokens(tmp_path)
    found, whole = bench.run(Generate(n=1, of=("propose",)), {"propose": [problem, plain]})
    assert found.text == "7+5+9=21\n#### 21"
    assert whole.text == "21\n#### 21"

    # The prefix is the completion's beginning, no part of the prompt; the sampler was given both.
    given = tokens.encode(prefix)
    assert found.prompt_ids == whole.prompt_ids == tokens.render(({"role": "user", "content": "What is 7+5+9?!"},))
    assert found.completion_ids == (*given, *whole.completion_ids)
    assert tokens.decode(found.completion_ids) == found.text
    assert (found.prefix, whole.prefix) == (len(given), 0)
    (sampler,) = bench.backends.samplers
    assert [request.prompt_ids for request in sampler.requests] == [(*found.prompt_ids, *given), whole.prompt_ids]
    assert (found.parents, found.tokenizer) == (("first",), tokens.id)


def test_a_prefix_alone_is_a_response_but_nothing_at_all_is_not(tmp_path: Path) -> None:
    silent = FakeBackends(lambda prompt, skill, stream: "")
    problem = Problem.of("1+2=", kind="continuation", parent=TRAIN[0].id, prefix="it is 3")
    found = Bench(tmp_path, TRAIN, silent).run(
        Generate(n=1, of=("propose",)), {"propose": [problem, replace(problem, id="plain", prefix="")]}
    )
    assert [type(each) for each in found] == [Sample, Quarantined]
    assert found[0].text == "it is 3"
    assert found[0].completion_ids == (*map(ord, "it is 3"), 0)


def test_a_prefix_that_fills_the_context_is_quarantined(tmp_path: Path) -> None:
    long = Problem.of("1+2=", kind="continuation", parent=TRAIN[0].id, prefix="1" * 2000)
    (found,) = Bench(tmp_path, TRAIN).run(Generate(n=1, of=("propose",)), {"propose": [long]})
    assert type(found) is Quarantined


def talks(prompt: str, skill: float, stream: Random) -> str:
    """Problems differ in how often they are solved, and right responses differ."""
    question = prompt.replace("!", "")
    skill = (0.0, 0.2, 0.6, 1.0)[len(question) % 2 + 2 * (ord(question.strip()[-2]) % 2)]
    return f"{'so ' * stream.randrange(4)}{adds(question, skill, stream)}"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(2, 9), waves=st.integers(2, 4), enough=st.integers(1, 3), extra=st.sampled_from([None, 0, 5]))
def test_waves_stop_at_enough_and_spend_no_more_than_n_each(
    tmp_path_factory: pytest.TempPathFactory, n: int, waves: int, enough: int, extra: int | None
) -> None:
    waves, most = min(waves, n), 0 if extra is None else n + extra
    pool = sums(8, first=5)
    bench = Bench(tmp_path_factory.mktemp("run"), pool, FakeBackends(talks))
    found = bench.run(Generate(n=n, waves=waves, enough=enough, most=most))
    mine = {p.id: [s for s in found if s.problem == p.id] for p in pool}
    assert len(found) <= n * len(pool)
    assert len({s.id for s in found}) == len(found)
    for p in pool:
        assert [s.index for s in mine[p.id]] == list(range(len(mine[p.id])))
        assert len(mine[p.id]) <= (most or n)
        right = [len({s.text for s in mine[p.id][:k] if s.text.endswith(f" {p.answer}")}) for k in range(n + 1)]
        if len(mine[p.id]) < n:
            assert right[len(mine[p.id])] >= enough
        elif not most:
            assert right[n * (waves - 1) // waves] < enough
    if most and any(len(each) < n for each in mine.values()) and (extra or 0) > 0:
        unsolved = [p.id for p in pool if all(not s.text.endswith(f" {p.answer}") for s in mine[p.id])]
        assert all(len(mine[id]) >= n for id in unsolved)


def test_waves_never_draw_the_same_stream_again(tmp_path: Path) -> None:
    found = Bench(tmp_path, TRAIN, FakeBackends(lambda *given: f"no {given[2].random()}")).run(Generate(n=8, waves=4))
    assert len({s.text for s in found}) == len(found) == 24


def test_a_right_sample_that_was_cut_off_is_not_enough(tmp_path: Path) -> None:
    """The rules would drop it, and the problem be left with nothing."""

    def chats(prompt: str, skill: float, stream: Random) -> str:
        return answers(prompt, 1.0, stream) + stream.choice(["", " so"])

    # As long as the answer, and a token to end it.
    longest = len(answers(TRAIN[0].prompt[-1]["content"], 1.0, Random(0))) + 1
    found = Bench(tmp_path, TRAIN, FakeBackends(chats)).run(Generate(n=6, waves=6, enough=1, max_new_tokens=longest))
    for p in TRAIN:
        mine = [s.finish for s in found if s.problem == p.id]
        assert mine == ["length"] * (len(mine) - 1) + ["stop"] or mine == ["length"] * 6
    assert {s.finish for s in found} == {"length", "stop"}


def test_waves_rise_from_the_coolest_to_the_temperature(tmp_path: Path) -> None:
    backends = FakeBackends(lambda *given: f"no {given[2].random()}")
    stage = Generate(n=6, waves=3, coolest=0.4, temperature=1.0)
    found = Bench(tmp_path, TRAIN, backends).run(stage)
    asked = {each.id: each.sampling.temperature for sampler in backends.samplers for each in sampler.requests}
    assert len(found) == len(asked) == 18
    assert all(asked[s.id] == pytest.approx((0.4, 0.7, 1.0)[s.index // 2]) for s in found)
    assert all(s.settings["temperature"] == asked[s.id] for s in found)
    assert "T=0.4 to 1.0" in stage.words()["samples"]


def test_waves_look_at_gold_and_say_so() -> None:
    stage = Generate(n=4, waves=2)
    assert stage.gold
    assert "verifiers" in stage.uses
    assert "2 waves until 2 are right" in stage.words()["samples"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n": 2, "waves": 3}, "waves is 3, but must be between 1 and n, which is 2"),
        ({"n": 2, "waves": 0}, "waves is 0"),
        ({"waves": 2, "enough": 0}, "enough is 0"),
        ({"n": 4, "waves": 2, "most": 3}, "most is 3, but must be at least n, which is 4"),
        ({"most": 9}, "most is 9, which needs waves"),
        ({"coolest": 0.0}, "coolest is 0.0, which needs waves"),
        ({"waves": 2, "coolest": 1.1}, "coolest is 1.1, but must be between 0 and temperature, which is 1.0"),
        ({"waves": 2, "coolest": -0.1}, "coolest is -0.1"),
    ],
)
def test_waves_that_cannot_be_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Generate(**given)
