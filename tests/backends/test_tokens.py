import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from selftrain.backends import checkpoints, tokens
from selftrain.backends.tokens import Tokenizer
from selftrain.errors import ModelError
from selftrain.records import Message
from tests.backends import tiny

ASK: tuple[Message, ...] = ({"role": "user", "content": "What is 2 + 3?"},)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("tokens") / "model")


def test_render_is_the_template_up_to_the_answer(folder: Path) -> None:
    tokens = Tokenizer(folder)
    plain = tokens.render(ASK)
    assert tokens.written(plain) == "<|user|>What is 2 + 3?<|end|><|assistant|>"
    assert tokens.render(ASK, prefix="It is") == plain + tokens.encode("It is")
    assert tokens.decode(tokens.encode("It is 5.")) == "It is 5."
    assert tokens.decode((*tokens.encode("5"), tokens.end)) == "5"
    assert tokens.end == 0


def test_the_beginning_token_comes_once(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    content = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    piece = {"SpecialToken": {"id": "<|system|>", "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [piece, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [piece, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|system|>": {"id": "<|system|>", "ids": [1], "tokens": ["<|system|>"]}},
    }
    (tmp_path / "m" / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<|system|>"}))
    template = (tmp_path / "m" / "chat_template.jinja").read_text()
    (tmp_path / "m" / "chat_template.jinja").write_text("{{ bos_token }}" + template)
    tokens = Tokenizer(tmp_path / "m")
    assert tokens.render(ASK).count(1) == 1
    assert tokens.encode("abc").count(1) == 0
    (tmp_path / "m" / "chat_template.jinja").unlink()
    assert Tokenizer(tmp_path / "m").render(ASK).count(1) == 1


def test_a_base_models_prompt_is_its_text(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").unlink()
    tokens = Tokenizer(tmp_path / "m")
    turns: tuple[Message, ...] = ({"role": "system", "content": "Sums."}, {"role": "user", "content": "2 + 3 ="})
    assert tokens.written(tokens.render(turns, prefix=" 5")) == "Sums.\n2 + 3 = 5"


def test_identity_is_of_content_not_place(folder: Path, tmp_path: Path) -> None:
    original = Tokenizer(folder)
    checkpoints.prepare(folder, tmp_path / "checkpoint")
    served = Tokenizer(checkpoints.serve_of(tmp_path / "checkpoint"))
    served.encode("use leaves no trace")
    original._tokenizer.save_pretrained(tmp_path / "saved")
    shutil.copy(folder / "config.json", tmp_path / "saved")
    assert original.id == served.id == Tokenizer(tmp_path / "saved").id
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "chat_template.jinja").write_text(tiny.TEMPLATE.replace("<|assistant|>", ""))
    assert Tokenizer(tmp_path / "other").id != original.id


def test_threads_may_share_it(folder: Path) -> None:
    tokens = Tokenizer(folder)
    texts = [f"{n} apples and {n * n} pears " * 20 for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: tokens.decode(tokens.encode(text)), texts)) == texts


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer that loads"):
        Tokenizer(tmp_path)


def test_want_of_memory_is_not_the_tokenizers_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def short(*given: object, **more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", short)
    with pytest.raises(MemoryError):
        tokens.load(folder)
