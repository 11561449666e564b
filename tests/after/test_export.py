import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from selftrain import seals
from selftrain.after.export import export
from selftrain.backends import checkpoints
from selftrain.backends.trainer import TrlTrainer
from selftrain.errors import Blocked, ConfigError
from selftrain.lab import TrainJob
from tests.backends import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that was trained with an adapter, far enough to say something of its own."""
    folder = tmp_path_factory.mktemp("export")
    trainer = TrlTrainer(log=folder / "trainer.log")
    trainer.prepare(tiny.make(folder / "model"), folder / "round-00")
    rows = tiny.write(tiny.sums(64), folder / "rows.parquet")
    settings = {"num_train_epochs": 5, "learning_rate": 5e-3}
    asked = TrainJob(rows=(rows,), start=folder / "round-00", out=folder / "round-01", settings=settings)
    done = trainer.train(asked, lambda steps: None)
    trainer.close()
    return done.path


def prompts(count: int = 32) -> list[tuple[int, ...]]:
    return [row.segments[0].ids for row in tiny.sums(count)]


@pytest.mark.parametrize(("dtype", "equal"), [("float32", 32), ("bfloat16", 28)])
def test_a_merged_export_loads_in_plain_transformers_and_says_the_same(
    trained: Path, tmp_path: Path, dtype: str, equal: int
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = export(trained, tmp_path / "out", card="# A model\n", dtype=dtype, prompts=prompts())
    assert done.parity is not None
    assert done.parity.difference <= 0.02
    assert equal <= done.parity.equal <= done.parity.prompts == 32
    model = AutoModelForCausalLM.from_pretrained(done.path)
    tokenizer = AutoTokenizer.from_pretrained(done.path)
    assert model.dtype == getattr(torch, dtype)
    assert tokenizer.chat_template == tiny.TEMPLATE
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 0
    assert (done.path / "README.md").read_text() == "# A model\n"
    master = checkpoints.load(checkpoints.master_of(trained), dtype)
    assert checkpoints.score(model, [((5, 6), (7, 8))]) == checkpoints.score(master, [((5, 6), (7, 8))])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


SERVED = """
import json, sys
from vllm import LLM, SamplingParams, TokensPrompt

if __name__ == "__main__":
    llm = LLM(sys.argv[1], enforce_eager=True, kv_cache_memory_bytes=2**27, max_model_len=256, disable_log_stats=True)
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in json.loads(sys.argv[2])]
    found = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=12), use_tqdm=False)
    print(json.dumps([list(each.outputs[0].token_ids) for each in found]))
    text = llm.chat([{"role": "user", "content": "What is 3 + 4?"}], SamplingParams(temperature=0), use_tqdm=False)
    print(text[0].outputs[0].finish_reason)
"""


@pytest.mark.slow
def test_a_merged_export_loads_in_plain_vllm_and_says_the_same(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    done = export(trained, tmp_path / "out", dtype="float32", prompts=prompts())
    asked = prompts(8)
    (tmp_path / "serve.py").write_text(SERVED)
    served = subprocess.run(
        [sys.executable, "serve.py", str(done.path), json.dumps(asked)],
        cwd=tmp_path,
        env=os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
    )
    assert served.returncode == 0, served.stderr[-2000:]
    found, finish = served.stdout.splitlines()[-2:]
    assert finish in ("stop", "length")
    master = checkpoints.load(checkpoints.master_of(trained), "float32")
    for ids, said in zip(asked, json.loads(found), strict=True):
        assert said == greedy(master, ids, 12)


def greedy(model: Any, ids: tuple[int, ...], length: int) -> list[int]:
    import torch

    out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=length, eos_token_id=0, pad_token_id=0)
    said: list[int] = out[0, len(ids) :].tolist()
    return said


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merge_that_changes_the_model_is_refused_and_leaves_nothing(
    trained: Path, tmp_path: Path, dtype: str
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    wrong = tmp_path / "checkpoint"
    shutil.copytree(trained, wrong)
    contents = checkpoints.read(wrong)
    assert contents.start is not None
    before = load_file(Path(contents.start) / "model.safetensors")
    master = load_file(contents.master / "model.safetensors")
    doubled = {name: before[name] + 2 * (weight - before[name]) for name, weight in master.items()}
    save_file(doubled, contents.master / "model.safetensors", metadata={"format": "pt"})
    # Written so by a wrong merge, not damaged since: its hashes are right.
    note = wrong / "checkpoint.json"
    stored = seals.read(note, "")
    stored["files"]["master/model.safetensors"] = seals.hashed(contents.master / "model.safetensors")
    note.write_text(json.dumps(seals.sealed(stored)))
    with pytest.raises(Blocked, match=rf"changes the model in {dtype}: \d+\.\d+ nat a token apart, \d+ of 32 greedy"):
        export(wrong, tmp_path / "out", dtype=dtype, prompts=prompts())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_an_adapter_export_names_its_base(trained: Path, tmp_path: Path) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM

    done = export(trained, tmp_path / "out", merge=False)
    assert done.parity is None
    contents = checkpoints.read(trained)
    config = json.loads((done.path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == contents.base
    assert not (done.path / "model.safetensors").exists()
    model = AutoPeftModelForCausalLM.from_pretrained(done.path, dtype=torch.float32)
    ids = [((2, 20, 21, 3), (22, 23))]
    merged = checkpoints.load(contents.master, "float32")
    assert checkpoints.score(model, ids)[0] == pytest.approx(checkpoints.score(merged, ids)[0], abs=1e-4)


def test_what_was_never_trained_has_no_adapter_but_can_be_exported(trained: Path, tmp_path: Path) -> None:
    base = trained.parent.parent / "round-00"
    with pytest.raises(ConfigError, match="has no adapter"):
        export(base, tmp_path / "out", merge=False)
    assert export(base, tmp_path / "out").parity is None


def test_a_folder_with_something_in_it_is_left_alone(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there and not empty"):
        export(trained, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_unknown_dtype_names_the_known_ones(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dtype is 'bfloat61'; did you mean bfloat16"):
        export(trained, tmp_path / "out", dtype="bfloat61")


class Hub(ThreadingHTTPServer):
    """The few endpoints of a hub that an upload meets; keeps what arrives."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Endpoints)
        self.created: list[dict[str, object]] = []
        self.files: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Endpoints(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self._reply({"id": "me/model", "sha": "0" * 40, "private": True, "siblings": [], "tags": []})

    def do_PUT(self) -> None:
        self.server.blobs[self.path.rsplit("/", 1)[1]] = self._body()
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self._reply({"url": f"{self.server.url}/me/model", "id": "me/model"})
        elif self.path == "/api/validate-yaml":
            self._reply({"errors": [], "warnings": []})
        elif self.path == "/api/models/me/model/preupload/main":
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._reply({"files": modes})
        elif self.path == "/me/model.git/info/lfs/objects/batch":
            self._reply({"transfer": "basic", "objects": [self._upload(each) for each in json.loads(body)["objects"]]})
        elif self.path == "/api/models/me/model/commit/main":
            self._commit(body)
        else:
            self.send_error(404, self.path)

    def _upload(self, wanted: dict[str, object]) -> dict[str, object]:
        return {**wanted, "actions": {"upload": {"href": f"{self.server.url}/blobs/{wanted['oid']}"}}}

    def _commit(self, body: bytes) -> None:
        from base64 import b64decode

        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.blobs[value["oid"]]
        self._reply({"commitUrl": f"{self.server.url}/me/model/commit/{'1' * 40}", "commitOid": "1" * 40})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(self, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_push_brings_every_file_to_the_hub(trained: Path, tmp_path: Path, hub: Hub) -> None:
    code = (
        "import sys; from pathlib import Path; from selftrain.after.export import export\n"
        "done = export(Path(sys.argv[1]), Path(sys.argv[2]), merge=False, card='# Mine\\n', push='me/model')\n"
        "assert done.url and done.url.endswith('/me/model'), done.url"
    )
    # The endpoint is read when the hub's client is imported, hence the process of its own.
    hub_settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_local", "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained), str(tmp_path / "out")],
        env={**os.environ, **hub_settings}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [(each["name"], each["visibility"]) for each in hub.created] == [("model", "private")]
    local = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {name: data for name, data in hub.files.items() if name != ".gitattributes"} == local
    assert "adapter_model.safetensors" in local


def test_a_push_that_fails_says_where_the_export_lies(trained: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from selftrain.after.export import export\n"
        "export(Path(sys.argv[1]), Path(sys.argv[2]), merge=False, push='me/model')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained), str(tmp_path / "out")],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_local"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"exported to {tmp_path}/out, but pushing to me/model failed" in done.stderr
    assert (tmp_path / "out" / "adapter_config.json").is_file()
