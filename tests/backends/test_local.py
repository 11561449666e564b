import json
import shutil
from pathlib import Path

import pytest

from selftrain.backends import checkpoints
from selftrain.backends.local import LocalBackends
from selftrain.backends.models import resolve
from selftrain.loop.runfile import RunFile
from selftrain.records import Json


def identity(tmp_path: Path, verifier: str) -> Json:
    return LocalBackends(RunFile(recipe="rest_em"), resolve("nano"), tmp_path, [verifier]).identity("verifiers")


def test_a_verifiers_identity_follows_its_source_its_parts_and_what_it_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, whole = tmp_path / "part.py", tmp_path / "whole.py"
    part.write_text("def verify(*, problem, response): return True")
    whole.write_text(f"parts = [{str(part)!r}]\ndef verify(*, problem, response, judge): return True")
    before = identity(tmp_path, str(whole))
    assert identity(tmp_path, str(whole)) == before
    part.write_text("def verify(*, problem, response): return False")
    assert identity(tmp_path, str(whole)) != before
    # `number` reads numbers by a module of selftrain's own.
    number = identity(tmp_path, "number")
    changed = tmp_path / "answers.py"
    changed.write_text("# other rules")
    monkeypatch.setattr("selftrain.verification.answers.__file__", str(changed))
    assert identity(tmp_path, "number") != number


def test_a_judges_identity_follows_its_template(tmp_path: Path) -> None:
    template = tmp_path / "own.txt"
    template.write_text("{prompt}\n{response}\nRate it.")
    spec = json.dumps({"name": "judge", "template": str(template)})
    before = identity(tmp_path, spec)
    template.write_text("{prompt}\n{response}\nRate it from {low} to {high}.")
    assert identity(tmp_path, spec) != before


def test_checkpoints_with_equal_tokenizers_share_one(tiny_model: Path, tmp_path: Path) -> None:
    backends = LocalBackends(RunFile(recipe="rest_em"), tiny_model, tmp_path, [])
    folders = [tmp_path / name for name in ("first", "second", "other")]
    other = tmp_path / "model"
    shutil.copytree(tiny_model, other)
    (other / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    for model, folder in zip((tiny_model, tiny_model, other), folders, strict=True):
        checkpoints.prepare(model, folder)
    assert backends.tokens(folders[0]) is backends.tokens(folders[1])
    assert backends.tokens(folders[0]).id != backends.tokens(folders[2]).id
