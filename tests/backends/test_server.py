import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from selftrain import pulse
from selftrain.backends import checkpoints, server_link
from selftrain.backends.server import ServerSampler
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.trainer import TrlTrainer
from selftrain.errors import ConfigError, EngineError
from selftrain.lab import Completion, Request, Sampling, Scored, TrainJob
from selftrain.records import JsonValue, seed_of
from tests.backends import tiny
from tests.faults.stub_server import serving
from tests.killing import waited

Answer = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]


class Plain:
    """A server without vLLM's extensions: takes text only, gives text only, and is not always well."""

    def __init__(self) -> None:
        self.troubles = 0
        self.key = ""
        self.garbage = b""
        self.text = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"data": [{"id": "small", "owned_by": "someone"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.key and self.headers["Authorization"] != f"Bearer {outer.key}":
                    return self.answer(401, {"error": "who are you?"})
                if outer.troubles:
                    outer.troubles -= 1
                    return self.send(200, outer.garbage) if outer.garbage else self.answer(503, {"error": "busy"})
                if not isinstance(body["prompt"], str):
                    return self.answer(400, {"error": "prompt must be text"})
                choice = {"text": outer.text or f"heard {len(body['prompt'])}", "finish_reason": "stop"}
                return self.answer(200, {"choices": [choice]})

            def answer(self, status: int, content: dict[str, Any]) -> None:
                self.send(status, json.dumps(content).encode())

            def send(self, status: int, text: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def plain() -> Iterator[Plain]:
    served = Plain()
    yield served
    served.http.shutdown()
    served.http.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("server") / "model")


def test_a_server_without_ids_is_asked_in_text_and_its_answers_are_marked(folder: Path, plain: Plain) -> None:
    sampler = ServerSampler(folder, settings={"url": f"{plain.url}/v1", "context": 128, "concurrency": 2})
    tokens = Tokenizer(folder)
    ids = tokens.render([{"role": "user", "content": "hello"}])
    found = list(sampler.sample([Request(id=f"r{n}", prompt_ids=ids, sampling=Sampling()) for n in range(5)], seed=0))
    assert sorted(each.id for each in found) == [f"r{n}" for n in range(5)]
    text = f"heard {len(tokens.written(ids))}"
    assert all(each.text == text and each.ids == (*tokens.encode(text), tokens.end) for each in found)
    assert all(each.reencoded and each.finish == "stop" for each in found)
    with pytest.raises(ConfigError, match="cannot score"):
        sampler.score([Scored(ids, ids)])
    sampler.close()


def test_a_busy_server_is_asked_again_and_a_dead_one_is_an_error(
    folder: Path, plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_link, "FIRST_WAIT", 0.01)
    sampler = ServerSampler(folder, settings={"url": plain.url, "context": 128, "tries": 4})
    ask = Request(id="r", prompt_ids=(5, 6), sampling=Sampling())
    plain.troubles = 3
    assert next(sampler.sample([ask], seed=0)).id == "r"
    plain.troubles = 99
    with pytest.raises(EngineError, match=r"4 tries; last: 503: .*busy"):
        next(sampler.sample([ask], seed=0))
    sampler.close()


def test_a_request_that_the_server_refuses_says_what_to_do_or_fails_alone(folder: Path, plain: Plain) -> None:
    sampler = ServerSampler(folder, settings={"url": plain.url, "context": 128})
    ask = Request(id="r", prompt_ids=(5, 6), sampling=Sampling())
    plain.key = "secret"
    with pytest.raises(ConfigError, match="api_key"):
        next(sampler.sample([ask], seed=0))
    (failed,) = sampler.sample([Request(id="long", prompt_ids=(5,) * 128, sampling=Sampling())], seed=0)
    assert failed.finish == "failed"
    assert "does not fit a context of 128" in failed.text
    sampler.close()


def asks(count: int) -> list[Request]:
    return [Request(id=f"r{n}", prompt_ids=(5, 6 + n), sampling=Sampling()) for n in range(count)]


def test_closing_hangs_up_on_a_server_that_never_answers(folder: Path) -> None:
    with serving("silent", times=10**9) as server:
        sampler = ServerSampler(folder, settings={"url": server.url, "context": 128, "concurrency": 2})
        answers = sampler.sample(asks(6), seed=0)
        errors: list[str] = []

        def waits() -> None:
            with pytest.raises(EngineError) as raised:
                list(answers)
            errors.append(str(raised.value))

        waiting = threading.Thread(target=waits, daemon=True)
        waiting.start()
        assert waited(lambda: server.tries.total() == 2, 10)
        began = time.monotonic()
        ending = threading.Thread(target=sampler.close, daemon=True)
        ending.start()
        for each in (ending, waiting):
            each.join(10)
        assert errors == ["the sampler was closed while requests were open"]
        assert time.monotonic() - began < 5
        assert waited(lambda: server.left == 2, 10)
        assert server.tries.total() == 2
        with pytest.raises(EngineError, match="closed"):
            sampler.sample(asks(1), seed=0)


def test_so_does_interrupting_one_that_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        errors: list[str] = []

        def starts() -> None:
            with pytest.raises(EngineError) as raised:
                ServerSampler(folder, settings={"url": f"http://127.0.0.1:{silent.getsockname()[1]}"})
            errors.append(str(raised.value))

        starting = threading.Thread(target=starts, daemon=True)
        starting.start()
        silent.settimeout(30)
        with silent.accept()[0] as asked:
            assert asked.recv(3) == b"GET"
            server_link.end_starting()
            starting.join(10)
    assert errors == ["the sampler was closed while requests were open"]


def test_a_server_that_answers_nobody_is_waited_for_once_and_not_by_the_watchdog(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_link, "FIRST_WAIT", 0.01)
    with serving("silent", times=10**9) as server:
        settings: dict[str, JsonValue] = {"url": server.url, "context": 128, "concurrency": 1}
        sampler = ServerSampler(folder, settings={**settings, "timeout": 0.3, "tries": 2})
        shards = [sampler.sample(asks(4), seed=seed) for seed in range(2)]
        monkeypatch.setattr(pulse, "_last", [time.monotonic() - 1_000])
        for answers in shards:
            with pytest.raises(EngineError, match=r"no answer from .*/v1/completions in 2 tries; last: ReadTimeout"):
                list(answers)
        assert pulse.silence() < 500
        assert server.tries.total() == 2
        sampler.close()


def test_one_that_answers_others_is_not_given_up_by_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_link, "FIRST_WAIT", 0.2)
    with serving("fails for some", times=10**9) as server:
        settings: dict[str, JsonValue] = {"url": server.url, "context": 128, "concurrency": 6, "tries": 2}
        sampler = ServerSampler(folder, settings=settings)
        found: list[Completion] = []
        with pytest.raises(EngineError, match="in 2 tries; last: 500"):
            found.extend(sampler.sample(asks(24), seed=0))
        sampler.close()
    assert {each.id for each in found} == {each.id for each in asks(24) if seed_of(0, each.id) % 7}
    assert 0 < len(found) < 24


GARBAGE = (b"<html>busy</html>", b"{}", b'{"choices": []}', b'{"choices": [{"text": 5}]}', b"\xff\xfe", b"[]", b"null")


@pytest.mark.parametrize("garbage", GARBAGE)
def test_an_answer_that_makes_no_sense_is_asked_for_again(
    folder: Path, plain: Plain, monkeypatch: pytest.MonkeyPatch, garbage: bytes
) -> None:
    monkeypatch.setattr(server_link, "FIRST_WAIT", 0.01)
    sampler = ServerSampler(folder, settings={"url": plain.url, "context": 128, "tries": 3})
    ask = Request(id="r", prompt_ids=(5, 6), sampling=Sampling())
    plain.garbage, plain.troubles = garbage, 2
    assert next(sampler.sample([ask], seed=0)).id == "r"
    plain.troubles = 99
    with pytest.raises(EngineError, match=r"in 3 tries; last: (an answer that makes no sense|503)"):
        next(sampler.sample([ask], seed=0))
    sampler.close()


def test_a_text_that_is_no_text_fails_alone(folder: Path, plain: Plain) -> None:
    """A lone surrogate can't be stored; asking again would bring the same one."""
    sampler = ServerSampler(folder, settings={"url": plain.url, "context": 128, "tries": 2})
    plain.text = "half a character: \ud800"
    (failed,) = sampler.sample([Request(id="r", prompt_ids=(5, 6), sampling=Sampling())], seed=0)
    assert (failed.id, failed.finish) == ("r", "failed")
    assert "no Unicode" in failed.text
    sampler.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "sampler.url is None"),
        ({"url": "http://127.0.0.1:1", "modell": "x"}, "did you mean model"),
        ({"url": "http://127.0.0.1:1", "update": "path"}, "none .* or lora"),
        ({"model": "smal"}, "did you mean small"),
        ({}, "does not tell its context"),
        ({"context": 9, "update": "lora"}, "needs vLLM's server"),
    ],
)
def test_wrong_settings_say_what_to_do(folder: Path, plain: Plain, settings: dict[str, Any], said: str) -> None:
    given = settings if "url" in settings or said.endswith("None") else {"url": plain.url, **settings}
    with pytest.raises(ConfigError, match=said):
        ServerSampler(folder, settings=given)


ADAPTERS = ("--enable-lora", "--max-lora-rank", "16")


@pytest.fixture(scope="module")
def address(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of vLLM's own server, which holds the tiny model."""
    pytest.importorskip("vllm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--model", str(tiny_model), "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    arguments += ["--dtype", "float32", "--block-size", "32", "--max-num-seqs", "16", "--kv-cache-memory-bytes", "128M"]
    arguments += ["--no-enable-chunked-prefill", *request.param]
    env = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "OMP_WAIT_POLICY": "PASSIVE", "VLLM_NO_USAGE_STATS": "1"}
    log = tmp_path_factory.mktemp("api") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
            stdout=output,
            stderr=output,
            env={**os.environ, **env},
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 300
        while time.monotonic() < end and process.poll() is None and not healthy(url):
            time.sleep(1)
        assert healthy(url), log.read_text()[-3000:]
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("address", [()], indirect=True)
def test_vllms_server_gives_ids_scores_and_streams(address: str, start: Path) -> None:
    sampler = ServerSampler(start, settings={"url": address})
    assert sampler.context == 256
    assert sampler.gap is not None
    assert sampler.gap < 1e-4
    tokens = Tokenizer(checkpoints.serve_of(start))
    texts = [f"{n} + {n} = " for n in range(12)]

    def asked(sampling: Sampling) -> list[Request]:
        return [
            Request(id=f"r{n}", prompt_ids=tokens.render([{"role": "user", "content": text}]), sampling=sampling)
            for n, text in enumerate(texts)
        ]

    greedy = asked(Sampling(temperature=0.0, max_tokens=16, logprob=True))
    found = {each.id: each for each in sampler.sample(greedy, seed=0)}
    assert not any(each.reencoded for each in found.values())
    pairs = [Scored(each.prompt_ids, found[each.id].ids) for each in greedy]
    model = checkpoints.load(checkpoints.serve_of(start), "float32")
    for row, own, each in zip(checkpoints.score(model, pairs), sampler.score(pairs), greedy, strict=True):
        assert own == pytest.approx(row, abs=1e-3)
        assert found[each.id].logprob == pytest.approx(sum(row), abs=1e-2)
    drawn = [{each.id: each.ids for each in sampler.sample(asked(Sampling(max_tokens=16)), seed=s)} for s in (1, 1, 2)]
    assert sum(drawn[0][key] == drawn[1][key] for key in drawn[0]) >= 11
    assert sum(drawn[0][key] == drawn[2][key] for key in drawn[0]) <= 1
    sampler.close()


@pytest.mark.slow
@pytest.mark.parametrize("address", [ADAPTERS], indirect=True)
def test_update_lora_serves_the_adapter_and_none_refuses(
    address: str, start: Path, trainer: TrlTrainer, tmp_path: Path
) -> None:
    rows = tiny.write(tiny.sums(16), tmp_path / "rows.parquet")
    settings = {"learning_rate": 0.02, "warmup_steps": 0, "per_device_train_batch_size": 4}
    job = TrainJob(rows=(rows,), start=start, out=tmp_path / "train", settings=settings, lora={"r": 8}, seed=1)
    trained = trainer.train(job, lambda steps: None)
    fixed = ServerSampler(start, settings={"url": address})
    with pytest.raises(ConfigError, match="recipes of one round"):
        fixed.load(trained.path)
    fixed.close()
    sampler = ServerSampler(start, settings={"url": address, "update": "lora"})
    sampler.load(trained.path)
    probes = [Scored(each.prompt_ids, each.completion_ids) for each in checkpoints.probes_of(trained.path)]
    base = checkpoints.score(checkpoints.load(checkpoints.serve_of(start), "float32"), probes)
    new = sampler.score(probes)
    assert sampler.gap is not None
    assert sampler.gap < 1e-2
    assert max(abs(a - b) for row, other in zip(base, new, strict=True) for a, b in zip(row, other, strict=True)) > 0.1
    sampler.load(start)
    assert sampler.score(probes)[0] == pytest.approx(base[0], abs=1e-3)
    sampler.close()
