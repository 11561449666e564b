"""The run file and its overrides: one name space, what goes first, and back to a file that gives the same run."""

import contextlib
import inspect
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from selftrain import plugins
from selftrain.errors import ConfigError, RecipeError, UserError
from selftrain.loop import config, runfile
from selftrain.recipe import Recipe, Stage
from selftrain.stages import Evaluate, Generate, Select, Train, Verify


def load(*pairs: str, recipe: str = "rest_em") -> config.Job:
    return config.load(recipe, runfile.overrides(pairs))


def stage(job: config.Job, name: str) -> Any:
    (found,) = [s for s in job.recipe.given() if s.name == name]
    return found


def test_a_key_of_the_run_file_an_argument_a_field_and_an_engines_argument_share_one_name_space() -> None:
    job = load(
        "pool=7", "samples=3", "generate.top_p=0.9", "train.lora.r=4", "learning_rate=1e-3", "data=sums",
        "data.max_terms=4", "sampler.dtype=float32", "model=nano", "prompt.suffix= Go.",
    )  # fmt: skip
    assert job.file.pool == 7
    assert job.args["samples"] == 3
    assert (stage(job, "generate").n, stage(job, "generate").top_p) == (3, 0.9)
    assert stage(job, "train").lora["r"] == 4
    assert stage(job, "train").settings["learning_rate"] == 1e-3
    assert job.file.data == {"name": "sums", "max_terms": 4}
    assert job.file.sampler["dtype"] == "float32"
    assert job.file.model == {"policy": "nano"}
    assert job.protocol.suffix == " Go."


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("recipe: rest_em\nmodel: nano\npool: 5\nsamples: 2\ngenerate: {top_p: 0.5, top_k: 3}\n")
    job = load("pool=9", "generate.top_p=0.7", recipe=str(path))
    assert (job.file.recipe, job.file.pool, job.args["samples"]) == ("rest_em", 9, 2)
    assert (stage(job, "generate").top_p, stage(job, "generate").top_k) == (0.7, 3)


WAYS = ("{}={}", "{head}.{}={}", "{head}={{{}: {}}}")


@pytest.mark.parametrize("ways", list(itertools.product(WAYS, repeat=3)))
@pytest.mark.parametrize(
    ("head", "name", "values"),
    [("trainer", "learning_rate", (0.001, 0.002, 0.004)), ("sampler", "max_num_seqs", (8, 16, 32))],
)
def test_the_later_word_goes_first_however_it_is_spelt(
    tmp_path: Path, ways: tuple[str, ...], head: str, name: str, values: tuple[float, ...]
) -> None:
    """A plain argument in a run file went before trainer.argument=... on the command line."""
    first, *later = (way.format(name, value, head=head) for way, value in zip(ways, values, strict=True))
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"recipe": "rest_em", **runfile.overrides([first])}))
    for said, value in ((later[:1], values[1]), (later, values[2])):
        assert getattr(load(*said, recipe=str(path)).file, head) == {name: value}


def test_the_later_word_goes_first_for_an_entry_of_a_stages_field(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("recipe: rest_em\ntrain.lora.r: 2\ntrain: {lora: {r: 4, lora_alpha: 8}}\n")
    lora = stage(load("train.lora.r=16", recipe=str(path)), "train").lora
    assert (lora["r"], lora["lora_alpha"]) == (16, 8)


def test_a_preset_goes_behind_what_the_recipe_says_of_its_training() -> None:
    def epochs(recipe: str, *pairs: str) -> dict[str, Any]:
        made = config.load(recipe, runfile.overrides(pairs), preset="nano").recipe
        stages = [*made.before, *made.given()]
        return {each.name: each.settings["num_train_epochs"] for each in stages if isinstance(each, Train)}

    assert epochs("rest_em") == {"train": 2}
    assert epochs("spin", "warm_up=true") == {"warm-up": 2, "train": 3}
    assert epochs("spin", "epochs=5") == {"train": 5}
    for name in ("num_train_epochs", "trainer.num_train_epochs"):
        assert epochs("spin", "warm_up=true", f"{name}=7") == {"warm-up": 7, "train": 7}
        assert epochs("rest_em", f"{name}=7") == {"train": 7}


def test_a_preset_beside_a_recipes_own_training_is_written_down_as_it_was(tmp_path: Path) -> None:
    job = config.load("spin", {"warm_up": True}, preset="nano")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(job.as_file()))
    again = load(recipe=str(path))
    assert list(again.recipe.before) + list(again.recipe.given()) == [*job.recipe.before, *job.recipe.given()]
    assert again.decides() == job.decides()


def test_a_field_of_a_stage_that_is_named_like_an_argument_is_written_down(tmp_path: Path) -> None:
    job = load("model=nano", "correct.temperature=0.7", recipe="self_consuming")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(job.as_file()))
    again = load(recipe=str(path))
    assert (again.args["correct"], stage(again, "correct").temperature) == (True, 0.7)
    assert again.as_file() == job.as_file()


def test_another_model_alone_leaves_the_policy_the_usual_one() -> None:
    assert load("model.critic=nano", recipe="critique_in_the_loop").file.model == {
        "policy": runfile.POLICY, "critic": "nano",
    }  # fmt: skip


def test_what_decides_a_rounds_stages_is_neither_their_number_nor_the_machine() -> None:
    job = load("model=nano", "samples=3")
    others = load("model=nano", "samples=3", "rounds=9", "workers=1", "out=elsewhere", "max_hours=1", "stall_minutes=5")
    assert others.decides() == job.decides()
    for setting in ("samples=4", "learning_rate=1e-4", "generate.top_p=0.9", "draw=7"):
        assert load("model=nano", "samples=3", setting).decides() != job.decides()


def test_another_data_set_takes_none_of_the_former_ones_settings() -> None:
    def data(preset: str, *pairs: str) -> Any:
        return config.load("rest_em", runfile.overrides(pairs), preset=preset).file.data

    assert data("demo", "data.max_terms=4", "data=sums") == {"name": "sums", "max_terms": 4}
    assert data("demo", "data.name=gsm8k") == {"name": "gsm8k"}
    assert data("demo", "data={name: sums, max_terms: 2}") == {"name": "sums", "max_terms": 2}
    chained = data("demo")
    assert data("demo", "data=gym:chain_sum", "data.max_terms=4") == {**chained, "max_terms": 4}
    assert data("demo", "data.max_terms=4") == {**chained, "max_terms": 4}


@pytest.mark.parametrize("recipe", ["star", "rest_em", "rft", "expert_iteration", "random_select", "gold_sft"])
def test_a_job_written_down_gives_the_same_job(tmp_path: Path, recipe: str) -> None:
    job = load("model=nano", "data=sums", "data.max_terms=2", "evaluate.samples=2", "learning_rate=1e-4", recipe=recipe)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(job.as_file()))
    again = load(recipe=str(path))
    assert again.as_file() == job.as_file()
    assert again.file == job.file
    assert list(again.recipe.given()) == list(job.recipe.given())


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}(\.[a-z]{1,5})?", fullmatch=True),
        st.integers() | st.booleans() | st.from_regex(r"[a-z]{2,8}[0-9]", fullmatch=True),
        max_size=4,
    )
)
def test_pairs_are_read_as_yaml(pairs: dict[str, Any]) -> None:
    assert (
        runfile.overrides([f"{key}={yaml.safe_dump(value).split(chr(10))[0]}" for key, value in pairs.items()]) == pairs
    )


def test_numbers_as_people_write_them() -> None:
    found = runfile.overrides(["a=1e-4", "b=2E3", "c=1.5", "d=", "e=[1, 2]", "f=gym:chain_sum", "g=null", "h=a=b"])
    assert found == {
        "a": 1e-4, "b": 2000.0, "c": 1.5, "d": "", "e": [1, 2], "f": "gym:chain_sum", "g": None, "h": "a=b",
    }  # fmt: skip


@given(st.lists(st.text(max_size=12), max_size=3))
def test_any_text_is_read_or_refused_as_a_users_mistake(pairs: list[str]) -> None:
    try:
        found = runfile.overrides(pairs)
    except ConfigError:
        return
    assert all("=" in pair for pair in pairs)
    assert len(found) <= len(pairs)


@given(st.text(max_size=20), st.text(max_size=8))
def test_any_setting_is_taken_or_refused_as_a_users_mistake(key: str, value: str) -> None:
    # Anything but a user's mistake would come out here.
    with contextlib.suppress(UserError):
        assert config.load("rest_em", {key: value}).file.recipe


def test_a_verifier_with_settings_is_kept_as_json() -> None:
    job = load('verifier={"name": "number", "tolerance": 0.1}', 'verify.by={"name": "number"}')
    assert job.file.verifier == '{"name": "number", "tolerance": 0.1}'
    assert stage(job, "verify").by == '{"name": "number"}'


def test_a_recipes_argument_may_not_shadow_a_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from selftrain.recipe import Recipe\n"
        "def recipe(*, pool: int = 1) -> Recipe:\n    return Recipe(paper='none', each_round=[])\n"
    )
    with pytest.raises(RecipeError, match="'pool' is a key of the run file; rename it"):
        load(recipe=str(path))


def test_a_field_is_changed_without_touching_the_recipes_own_stage() -> None:
    given_stage = Train(settings={"learning_rate": 1.0, "warmup_steps": 2})
    changed = config.with_fields(given_stage, {"settings.learning_rate": 0.5})
    assert changed == Train(settings={"learning_rate": 0.5, "warmup_steps": 2})
    assert given_stage.settings["learning_rate"] == 1.0


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        (Generate(), {"n": "many"}),
        (Generate(), {"only": "some"}),
        (Select(), {"rules": "passed"}),
        (Train(), {"lora.rank_of": 3}),
        (Evaluate(), {"splits": 3}),
        (Verify(), {"blind": "perhaps"}),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_name(stage: Stage, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{stage.name}.{next(iter(changes)).partition('.')[0]}|LoRA"):
        config.with_fields(stage, changes)


def test_a_server_that_cannot_change_its_weights_serves_one_round() -> None:
    with pytest.raises(ConfigError, match="allows rounds=1 only"):
        load("sampler=server", "sampler.url=http://localhost:1")
    assert isinstance(load("sampler=server", "sampler.url=http://localhost:1", "rounds=1").recipe, Recipe)


@pytest.mark.parametrize("preset", sorted(plugins.presets()))
def test_a_preset_goes_with_any_recipe_and_all_of_it_with_some(preset: str) -> None:
    asked = yaml.safe_load(plugins.presets()[preset].read_text(encoding="utf-8"))
    # Named by hand, every key of it must mean something: so a slip in a preset is found.
    assert config.load("rest_em", asked).as_file() == config.load("rest_em", {}, preset=preset).as_file()
    for name in plugins.available("recipe"):
        job = config.load(name, {}, preset=preset)
        taken = inspect.signature(plugins.load("recipe", name).recipe).parameters
        assert job.file.model["policy"] == asked["model"]
        assert job.file.pool == asked["pool"]
        for argument in {"rounds", "samples", "keep", "temperature", "max_new_tokens"} & set(taken):
            assert job.args[argument] == asked[argument], (name, argument)
