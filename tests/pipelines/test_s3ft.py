"""S3FT: a row is the model's own right answer, or else the gold solution."""

from pathlib import Path

from selftrain.recipe import Recipe
from selftrain.records import Verdict
from selftrain.stages import Gold, Select
from selftrain.testing import fake_run
from tests.pipelines.stored import kept, made, read, samples, trained_on, with_stage, without


def own_where_right(root: Path, recipe: Recipe) -> bool:
    """Whether there is one row a problem, of the model's own answer exactly where that is right."""
    fake_run(recipe, root)
    own, gold = samples(root, "generate"), samples(root, "gold")
    right = {own[v.sample].problem for v in read(root, Verdict, "verify") if v.status == "pass"}
    assert 0 < len(right) < 12
    assert kept(root) == trained_on(root)
    learned = [{**own, **gold}[id] for id in kept(root)]
    one_each = len(learned) == len({sample.problem for sample in learned}) == 12
    return one_each and {sample.problem for sample in learned if sample.finish != "gold"} == right


def test_own_where_right_and_gold_where_wrong(tmp_path: Path) -> None:
    recipe = made("s3ft", temperature=1.0, max_new_tokens=40)
    assert own_where_right(tmp_path / "a", recipe)
    every = with_stage(recipe, Gold, only="all")
    assert not own_where_right(tmp_path / "gold", with_stage(every, Select, of=("gold", "verify-gold")))
    assert not own_where_right(tmp_path / "own", with_stage(recipe, Select, of=("generate", "verify")))
    assert not own_where_right(tmp_path / "unjudged", without(every, "passed"))
