"""Generate: sample responses from a model. Gold: let gold solutions enter as samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from selftrain.errors import RecipeError, near
from selftrain.lab import Completion, Lab, Request, Sampling, Tokens
from selftrain.recipe import Cost, FromData, Resource, Stage
from selftrain.records import Problem, Quarantined, Sample, Verdict, digest, seed_of
from selftrain.round import Part
from selftrain.rules import normalised
from selftrain.templates import TEMPLATES, Protocol, Shot

Only = Literal["all", "unsolved"]


@dataclass(frozen=True, kw_only=True)
class Generate(Stage):
    """Sample `n` responses to each problem, those that go on from a prefix with the prefix in front."""

    n: int | FromData = 8
    temperature: float | FromData = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    template: str = "direct"
    shots: tuple[Shot, ...] | FromData = ()
    """Examples of the few-shot template; they never reach the rows."""
    only: Only = "all"
    """unsolved: problems for which nothing has passed yet in this round."""
    share: float = 1.0
    """Of the problems; which ones depends on their ids alone."""
    model: str = "policy"
    which: str = "latest"
    """latest, previous, best or base."""
    logprob: bool = False
    """Store each sample's log-probability; for stages that read it."""
    waves: int = 1
    """Adaptive budget: sample in so many waves; a problem with `enough` distinct right samples gets no more."""
    enough: int = 2
    """A sample that was cut off at `max_new_tokens` doesn't count: rules drop it, right as it may be."""
    most: int = 0
    """The most samples of a problem: what some leave over goes to the others, as far as this; 0 is n, saving it."""
    coolest: float | None = None
    """Temperature of the first wave, from which the waves rise evenly to `temperature`; None keeps that for all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.shots, FromData):
            # A stage that found them in the data has handed them on as JSON.
            given = tuple(Shot(**each) if isinstance(each, dict) else each for each in self.shots)
            object.__setattr__(self, "shots", given)
        _check_share(self.name, self.share)
        if self.template not in TEMPLATES:
            raise RecipeError(
                f"stage {self.name!r}: unknown template {self.template!r}{near(self.template, TEMPLATES)}"
            )
        if isinstance(self.n, int) and self.n < 1:
            raise RecipeError(f"stage {self.name!r}: n is {self.n}, but at least 1 sample is needed")
        if self.max_new_tokens < 1:
            raise RecipeError(f"stage {self.name!r}: max_new_tokens is {self.max_new_tokens}, but must be at least 1")
        if not isinstance(self.temperature, FromData) and self.temperature < 0:
            raise RecipeError(f"stage {self.name!r}: temperature is {self.temperature}, but must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise RecipeError(f"stage {self.name!r}: top_p is {self.top_p}, but must be above 0 and at most 1")
        if self.top_k < 0:
            raise RecipeError(f"stage {self.name!r}: top_k is {self.top_k}, but must be 0 (off) or more")
        if isinstance(self.n, int):
            self._check_waves(self.n)

    def _check_waves(self, n: int) -> None:
        if not 1 <= self.waves <= n:
            raise RecipeError(f"stage {self.name!r}: waves is {self.waves}, but must be between 1 and n, which is {n}")
        if self.enough < 1:
            raise RecipeError(f"stage {self.name!r}: enough is {self.enough}, but must be at least 1 right sample")
        if self.most and self.most < n:
            raise RecipeError(f"stage {self.name!r}: most is {self.most}, but must be at least n, which is {n}")
        for name, value in {"most": self.most or None, "coolest": self.coolest}.items():
            if self.waves == 1 and value is not None:
                raise RecipeError(f"stage {self.name!r}: {name} is {value}, which needs waves of 2 or more")
        hottest = self.temperature
        if self.coolest is not None and not isinstance(hottest, FromData) and not 0 <= self.coolest <= hottest:
            raise RecipeError(
                f"stage {self.name!r}: coolest is {self.coolest}, but must be between 0 and temperature, which is"
                f" {hottest}"
            )

    def fits(self, earlier: Sequence[Stage]) -> None:
        """A recipe that asks for examples has some; those that are found in the data may turn out to be none."""
        if self.template == "few-shot" and not self.shots:
            raise RecipeError(f"stage {self.name!r}: the few-shot template needs shots")

    @property
    def uses(self) -> tuple[Resource, ...]:
        """What it works with; between waves it asks the problems' verifiers."""
        return ("sampler", "tokens", "verifiers") if self.waves > 1 else ("sampler", "tokens")

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Problems; with only="unsolved" also what was tried and judged so far."""
        return (Problem, Sample, Verdict) if self.only == "unsolved" else (Problem,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Samples, and what could not be sampled."""
        return (Sample, Quarantined)

    @property
    def gold(self) -> bool:
        """A hint is the gold answer; between waves the problems' verifiers see it."""
        return self.template == "hint" or self.waves > 1

    @property
    def weights(self) -> tuple[tuple[str, str], ...]:
        """The model it samples."""
        return ((self.model, self.which),)

    def cost(self, problems: int) -> Cost:
        """All samples at full length."""
        samples = round(problems * self.share) * (self.n if isinstance(self.n, int) else 1)
        return Cost(samples, samples * self.max_new_tokens, samples * (2_000 + 4 * self.max_new_tokens))

    @property
    def asks(self) -> int:
        """A wave's samples."""
        return -(-self.n // self.waves) if isinstance(self.n, int) else 1

    def words(self) -> dict[str, str]:
        """How it samples."""
        warm = f"T={self.temperature}" if self.coolest is None else f"T={self.coolest} to {self.temperature}"
        how = "greedy" if self.temperature == 0 else warm
        hint = "" if self.template == "direct" else f", {self.template}"
        share = "" if self.share == 1 else f", {100 * self.share:g} % of the problems"
        most = f"<= {self.max_new_tokens} new tokens"
        waves = f", in {self.waves} waves until {self.enough} are right" if self.waves > 1 else ""
        return {"samples": f"{self.n} x {self.model}/{self.which}, {how}{hint}{share}, {most}{waves}"}

    def run(self, part: Part, lab: Lab) -> Iterator[Sample | Quarantined]:
        """Sample the shard's problems; the order of the records does not depend on the engine's."""
        checkpoint = part.checkpoint(self.model, self.which)
        sampler, tokens = lab.sampler(checkpoint), lab.tokens(checkpoint)
        assert isinstance(self.n, int)
        sampling = Sampling(
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_new_tokens,
            stop=self.stop,
            logprob=self.logprob,
        )
        prompts: list[Prompt] = []
        for problem in _chosen(part, self.only, self.share):
            if self.template == "hint" and problem.answer is None:
                why = "the problem has no answer to give as a hint"
                yield from (Quarantined(problem=problem.id, index=index, why=why) for index in range(self.n))
                continue
            prompt = self._prompt(problem, lab.protocol, tokens)
            length = len(prompt.ids + prompt.given)
            if length < sampler.context:
                prompts.append(prompt)
                continue
            why = f"the prompt has {length} tokens, the model's context {sampler.context}"
            yield from (Quarantined(problem=problem.id, index=index, why=why) for index in range(self.n))
        budget = self.n * len(prompts)
        for wave in range(self.waves):
            asked = self._wave(prompts, wave, budget)
            if not asked:
                return
            budget -= len(asked)
            sampling = replace(sampling, temperature=self._temperature(wave))
            # A later wave must not draw again what an earlier one drew.
            seed = seed_of(lab.seed, part.round.number, self.name, part.shard, *([wave] if wave else []))
            ids_of = {at: digest(part.round.number, self.name, at[0].problem.id, at[1]) for at in asked}
            requests = [Request(id=ids_of[at], prompt_ids=at[0].ids + at[0].given, sampling=sampling) for at in asked]
            found = {done.id: done for done in sampler.sample(requests, seed=seed)}
            samples = []
            for at in asked:
                prompt, index = at
                prompt.drawn += 1
                if found[ids_of[at]].finish == "failed":
                    yield Quarantined(problem=prompt.problem.id, index=index, why=found[ids_of[at]].text)
                    continue
                if not (prompt.problem.prefix + found[ids_of[at]].text).strip():
                    yield Quarantined(problem=prompt.problem.id, index=index, why="the completion is empty")
                    continue
                made = self._sample(prompt, index, found[ids_of[at]], sampling, tokens.id, checkpoint.id)
                samples.append((prompt, made))
                yield made
            if wave + 1 < self.waves:
                _tell(samples, lab)

    def _prompt(self, problem: Problem, protocol: Protocol, tokens: Tokens) -> "Prompt":
        assert not isinstance(self.shots, FromData)
        ids = tokens.render(TEMPLATES[self.template](protocol, problem, self.shots))
        return Prompt(problem, tuple(ids), tuple(tokens.encode(problem.prefix)) if problem.prefix else ())

    def _wave(self, prompts: "Sequence[Prompt]", wave: int, budget: int) -> "list[tuple[Prompt, int]]":
        """Return who is asked in a wave, and which of the problem's samples that is."""
        assert isinstance(self.n, int)
        left = [prompt for prompt in prompts if len(prompt.right) < self.enough]
        if not self.most:
            upto = self.n * (wave + 1) // self.waves
        elif left:
            upto = max(prompt.drawn for prompt in left) + budget // ((self.waves - wave) * len(left))
        else:
            return []
        return [(prompt, index) for prompt in left for index in range(prompt.drawn, min(upto, self.most or self.n))]

    def _temperature(self, wave: int) -> float:
        """Return a wave's temperature."""
        assert isinstance(self.temperature, (int, float))
        if self.coolest is None:
            return self.temperature
        return self.coolest + (self.temperature - self.coolest) * wave / (self.waves - 1)

    def _sample(
        self, prompt: "Prompt", index: int, done: Completion, sampling: Sampling, tokenizer: str, model: str
    ) -> Sample:
        return Sample(
            id=done.id,
            problem=prompt.problem.id,
            index=index,
            text=prompt.problem.prefix + done.text,
            prompt_ids=prompt.ids,
            completion_ids=(*prompt.given, *done.ids),
            prefix=len(prompt.given),
            parents=prompt.problem.about,
            # Ids that a server could not give are no sampled ids: rows of them are marked.
            tokenizer="" if done.reencoded else tokenizer,
            finish="length" if done.finish == "length" else "stop",
            model=model,
            template=self.template,
            logprob=done.logprob,
            settings={"temperature": sampling.temperature, "top_p": self.top_p, "top_k": self.top_k},
        )


@dataclass(slots=True, eq=False)
class Prompt:
    """What a problem is asked by, and what came of it so far."""

    problem: Problem
    ids: tuple[int, ...]
    given: tuple[int, ...]
    """Ids that the response begins with."""
    drawn: int = 0
    right: set[str] = field(default_factory=set)
    """Distinct texts that passed."""


def _tell(samples: "Sequence[tuple[Prompt, Sample]]", lab: Lab) -> None:
    """Note which of a wave's samples are right, and at their end."""
    by_id = {sample.id: (prompt, sample) for prompt, sample in samples}
    for verdict in lab.verifiers.verify("", [(prompt.problem, sample) for prompt, sample in samples]):
        prompt, sample = by_id[verdict.sample]
        if verdict.status == "pass" and sample.finish != "length":
            prompt.right.add(normalised(sample.text))


@dataclass(frozen=True, kw_only=True)
class Gold(Stage):
    """Let gold solutions enter as samples, so that they can be judged, chosen and mixed like any other."""

    only: Only = "all"
    """unsolved: problems for which nothing has passed yet in this round."""
    share: float = 1.0
    """Of the problems; which ones depends on their ids alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share(self.name, self.share)

    @property
    def reads(self) -> tuple[type[Any], ...]:
        """Problems; with only="unsolved" also what was tried and judged so far."""
        return (Problem, Sample, Verdict) if self.only == "unsolved" else (Problem,)

    @property
    def writes(self) -> tuple[type[Any], ...]:
        """Samples, and problems without a solution."""
        return (Sample, Quarantined)

    @property
    def gold(self) -> bool:
        """It reads solutions."""
        return True

    def run(self, part: Part, lab: Lab) -> Iterator[Sample | Quarantined]:
        """Write a sample for each problem that has a solution."""
        for problem in _chosen(part, self.only, self.share, "gold"):
            if not problem.solution:
                yield Quarantined(problem=problem.id, index=0, why="the problem has no gold solution")
                continue
            yield Sample.given(
                problem,
                problem.solution,
                id=digest(part.round.number, self.name, problem.id, 0),
                model="gold",
                finish="gold",
                template="gold",
            )


def _chosen(part: Part, only: Only, share: float, draw: str = "share") -> list[Problem]:
    """A share of the part's problems, or of those for which nothing has passed yet in this round."""
    problems = [problem for problem in part.problems() if share == 1 or seed_of(draw, problem.id) < share * 2**31]
    if only == "all":
        return problems
    solved = {id for id, attempts in part.attempts().items() if any(each.passed for each in attempts)}
    return [problem for problem in problems if problem.id not in solved]


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise RecipeError(f"stage {name!r}: share is {share}, but must be between 0 and 1")
