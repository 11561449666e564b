"""The sampler of a server with OpenAI's completions protocol; vLLM's server gives ids, scores and adapters too."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import httpx
from pydantic import Field

from selftrain import pulse
from selftrain.backends import checkpoints
from selftrain.backends.served import Served, gap, served
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.vllm import FRESH, TOLERANCE
from selftrain.errors import ConfigError, EngineError, SelftrainError, near
from selftrain.lab import Completion, Request, Scored
from selftrain.records import JsonValue, seed_of

log = logging.getLogger(__name__)

SETTINGS: dict[str, JsonValue] = {
    "url": None,
    "model": None,
    "update": "none",
    "api_key": None,
    "concurrency": 64,
    "context": None,
    "timeout": 600,
    "tries": 6,
}
"""Settings and their defaults; a key left out is taken from OPENAI_API_KEY, model and context from the server."""
_COUNT = Annotated[int, Field(ge=1)]
TYPES: Mapping[str, Any] = {
    "url": str,
    "model": str,
    "update": Literal["none", "lora"],
    "api_key": str,
    "concurrency": _COUNT,
    "context": _COUNT,
    "timeout": Annotated[float, Field(gt=0)],
    "tries": _COUNT,
}
FIRST_WAIT = 0.5


class ServerSampler:
    """Samples from a server at `url`.

    update=none serves one set of weights for good; update=lora loads each checkpoint's adapter into a vLLM server,
    which must see the run's folder and run with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora.
    """

    kind = "server"
    dtype = "the server's"

    def __init__(self, checkpoint: Path, *, settings: Mapping[str, JsonValue], seed: int = 0) -> None:
        given = checked(settings)
        self._seed = seed
        self._update = str(given["update"])
        self._tries = int(str(given["tries"]))
        self.concurrency = int(str(given["concurrency"]))
        key = given["api_key"] or os.environ.get("OPENAI_API_KEY")
        self._client = httpx.Client(
            base_url=str(given["url"]).rstrip("/").removesuffix("/v1"),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=float(str(given["timeout"])),
            limits=httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
        )
        self._pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="server")
        self._base = self._served = served(checkpoint)
        self._tokens = Tokenizer(self._served.folder)
        self._ids_prompt = True
        self._adapter: str | None = None
        try:
            self._describe(given)
            self._adopt(self._served)
        except BaseException:
            self.close()
            raise

    def sample(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
        """Yield one completion per request as they finish, one that the server refuses with the finish "failed".

        A server that gives no sensible answer raises EngineError after all others were yielded.
        """
        futures = {self._pool.submit(self._one, request, seed_of(seed, request.id)): request for request in requests}

        def answers() -> Iterator[Completion]:
            failed: Exception | None = None
            try:
                for future in as_completed(futures):
                    error = future.exception()
                    if error is None:
                        yield future.result()
                    elif isinstance(error, _Rejected):
                        yield Completion(id=futures[future].id, ids=(), text=str(error), finish="failed")
                    elif isinstance(error, EngineError | ConfigError):
                        failed = failed or error
                    else:
                        raise error
                if failed:
                    raise failed
            finally:
                for future in futures:
                    future.cancel()

        return answers()

    def score(self, sequences: Sequence[Scored]) -> list[tuple[float, ...]]:
        """Return the log-probability of each completion token, in nats; only vLLM's server tells."""
        if not self.vllm:
            raise ConfigError("this server cannot score given tokens; use vLLM's server, or sampler=vllm")
        return list(self._pool.map(self._score_one_by_one if self._update == "lora" else self._score, sequences))

    def load(self, checkpoint: Path) -> None:
        """Serve these weights from now on: by their adapter with update=lora, else only if they are served already."""
        new = served(checkpoint)
        if new.id == self._served.id:
            return
        if self._update == "none":
            raise ConfigError(
                "sampler.update=none cannot change the server's weights, so only recipes of one round can use it; "
                "give sampler.update=lora and a vLLM server with --enable-lora, or sampler=vllm"
            )
        name = None if new.id == self._base.id else self._adapter_of(checkpoint, new)
        if name:
            folder = str(checkpoints.read(checkpoint.resolve()).adapter)
            self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder})
        old, self._adapter = self._adapter, name
        if old:
            self._post("/v1/unload_lora_adapter", {"lora_name": old})
        self._adopt(new)

    def sleep(self) -> None:
        """Do nothing: the server's memory is its own."""

    def wake(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Hang up; the server goes on."""
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _describe(self, given: Mapping[str, JsonValue]) -> None:
        """Ask the server what it serves."""
        listed = self._send("GET", "/v1/models", read=_models)
        names = [str(each["id"]) for each in listed]
        asked = given["model"]
        if asked is not None and asked not in names:
            raise ConfigError(f"the server has no model {asked!r}{near(str(asked), names)} (it has {', '.join(names)})")
        model = next(each for each in listed if asked in (None, each["id"]))
        self.model = str(model["id"])
        self.vllm = model.get("owned_by") == "vllm"
        self.version = self._send("GET", "/version", read=lambda said: str(said["version"])) if self.vllm else "unknown"
        context = given["context"] or model.get("max_model_len")
        if not context:
            raise ConfigError("the server does not tell its context; give sampler.context=TOKENS")
        self.context = int(str(context))
        if self._update == "lora" and not self.vllm:
            raise ConfigError("sampler.update=lora needs vLLM's server; this one is another (its model list says so)")

    def _adopt(self, new: Served) -> None:
        """Take weights as the ones served now, if the server's scores of their probe say that they are."""
        self._served = new
        self.gap: float | None = None
        if not (self.vllm and new.probes):
            return
        self.gap = gap(new.probes, list(self._pool.map(self._score_one_by_one, new.sequences)))
        if not self.gap <= FRESH * TOLERANCE["half"]:
            raise EngineError(
                f"the server's {self._adapter or self.model} differs from {new.folder} by {self.gap:.3f} nats a token "
                f"(at most {FRESH * TOLERANCE['half']:.1f}): it serves other weights; start it with the run's model"
            )

    def _adapter_of(self, checkpoint: Path, new: Served) -> str:
        if not new.own or (contents := checkpoints.read(checkpoint.resolve())).adapter is None:
            raise ConfigError(f"{checkpoint} has no adapter, so update=lora cannot load it; train with adapter=lora")
        start, base = Path(str(contents.start)).resolve(), Path(contents.base).resolve()
        if start != base:
            raise ConfigError(
                f"the adapter of {checkpoint} was trained on {start}, but the server holds {base}; "
                "with update=lora every training must start from base"
            )
        return f"selftrain-{new.id[:12]}"

    def _one(self, request: Request, seed: int) -> Completion:
        wanted = request.sampling
        body: dict[str, Any] = {
            "model": self._adapter or self.model,
            "max_tokens": min(wanted.max_tokens, self.context - len(request.prompt_ids)),
            "temperature": wanted.temperature,
            "top_p": wanted.top_p,
            "seed": seed,
        }
        if body["max_tokens"] < 1:
            raise _Rejected(f"a prompt of {len(request.prompt_ids)} tokens does not fit a context of {self.context}")
        if wanted.stop:
            body["stop"] = list(wanted.stop)
        if wanted.logprob:
            body["logprobs"] = 1
        if self.vllm:
            body |= {"return_token_ids": True, "stop_token_ids": [self._tokens.end], "top_k": wanted.top_k}
        elif wanted.top_k:
            raise ConfigError("only vLLM's server knows top_k; leave it out")
        choice = self._complete(body, request)
        ids, reencoded = choice.ids, False
        if ids is None:
            ended = choice.finish == "stop" and not wanted.stop
            ids, reencoded = (*self._tokens.encode(choice.text), *((self._tokens.end,) if ended else ())), True
        return Completion(
            id=request.id,
            ids=ids,
            text=choice.text,
            finish=choice.finish,
            logprob=choice.logprob if wanted.logprob else None,
            reencoded=reencoded,
        )

    def _complete(self, body: dict[str, Any], request: Request) -> "_Choice":
        """Send the prompt as ids, or as text once the server has refused ids and taken text."""
        if self._ids_prompt:
            try:
                return self._chosen({**body, "prompt": list(request.prompt_ids)})
            except _Rejected:
                if self.vllm:
                    raise
        answer = self._chosen({**body, "prompt": self._tokens.written(request.prompt_ids)})
        self._ids_prompt = False
        return answer

    def _chosen(self, body: Mapping[str, Any]) -> "_Choice":
        choice: _Choice = self._send("POST", "/v1/completions", body, read=_choice)
        try:
            choice.text.encode()
        except UnicodeEncodeError as error:
            raise _Rejected(f"the server's text is no Unicode text: {error}") from error
        return choice

    def _score(self, sequence: Scored) -> tuple[float, ...]:
        ids = [*sequence.prompt_ids, *sequence.completion_ids]
        first = len(sequence.prompt_ids)
        body = {"model": self.model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        table = self._post("/v1/completions", body)["choices"][0]["prompt_logprobs"]
        return tuple(float(table[at][str(ids[at])]["logprob"]) for at in range(first, len(ids)))

    def _score_one_by_one(self, sequence: Scored) -> tuple[float, ...]:
        """Score without prompt log-probabilities: a vLLM server with adapters on a CPU dies when asked for them."""
        ids = [*sequence.prompt_ids, *sequence.completion_ids]
        return tuple(self._score_next(ids[:at], ids[at]) for at in range(len(sequence.prompt_ids), len(ids)))

    def _score_next(self, prompt: list[int], token: int) -> float:
        body: dict[str, Any] = {"model": self._adapter or self.model, "prompt": prompt, "max_tokens": 1}
        body |= {"temperature": 0.0, "logprobs": 1, "logprob_token_ids": [token], "return_tokens_as_token_ids": True}
        told = self._post("/v1/completions", body)["choices"][0]["logprobs"]["top_logprobs"][0]
        return float(told[f"token_id:{token}"])

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._send("POST", path, body)

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        read: Callable[[Any], Any] = lambda said: said,
    ) -> Any:
        """Send and return the answer as `read` makes it.

        What may pass (no connection, 429, 5xx, an answer that `read` can't make sense of) is tried again after a while.
        """
        for attempt in range(self._tries):
            if attempt:
                time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
            try:
                answer = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                trouble = f"{type(error).__name__}: {error}"
                continue
            if answer.status_code == 429 or answer.status_code >= 500:
                trouble = f"{answer.status_code}: {answer.text[:300]}"
                continue
            try:
                said = read(_content(answer))
            except SelftrainError:
                raise
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                trouble = f"an answer that makes no sense ({type(error).__name__}: {error}): {answer.text[:200]!r}"
                continue
            pulse.beat()
            return said
        raise EngineError(f"no answer from {self._client.base_url}{path} in {self._tries} tries; last: {trouble}")


class _Rejected(EngineError):
    """The request itself can't be answered: the server found it wrong (status 400 or 422), or its answer is no text."""


class _Choice(NamedTuple):
    """What a server answers to one prompt."""

    text: str
    ids: tuple[int, ...] | None
    finish: str
    logprob: float | None


def _choice(said: Any) -> _Choice:
    """Read a completion; raises ValueError, KeyError, IndexError or TypeError for what is none."""
    choice = said["choices"][0]
    ids = choice.get("token_ids")
    if not isinstance(choice["text"], str):
        raise ValueError("no text")
    if ids is not None and not all(isinstance(each, int) and 0 <= each < 2**31 for each in ids):
        raise ValueError("token_ids are no token ids")
    scores = (choice.get("logprobs") or {}).get("token_logprobs")
    logprob = float(sum(scores)) if scores is not None and None not in scores else None
    finish = "stop" if choice["finish_reason"] == "stop" else "length"
    return _Choice(choice["text"], None if ids is None else tuple(ids), finish, logprob)


def _models(said: Any) -> list[dict[str, Any]]:
    """Read the list of models."""
    return [{**each, "id": str(each["id"])} for each in said["data"]]


def _content(answer: httpx.Response) -> Any:
    """Return an answer's JSON (its text where it is none), or raise what its status says."""
    told = f"{answer.request.url} says {answer.status_code}: {answer.text[:300]}"
    if answer.status_code in (401, 403):
        raise ConfigError(f"{told}; set sampler.api_key or OPENAI_API_KEY")
    if answer.status_code == 404:
        raise ConfigError(f"{told}; check sampler.url and sampler.model (adapters need a vLLM server set up for them)")
    if answer.is_error:
        raise _Rejected(told)
    return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text


def checked(settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return all settings of the server sampler; refuses one that there is not, and an address that is none."""
    for name in settings:
        if name not in SETTINGS:
            raise ConfigError(
                f"the server sampler has no setting {name!r}{near(name, SETTINGS)} (it has {', '.join(SETTINGS)})"
            )
    given = SETTINGS | dict(settings)
    if not str(given["url"] or "").startswith(("http://", "https://")):
        raise ConfigError(f"sampler.url is {given['url']!r}; give the server's address, like http://127.0.0.1:8000/v1")
    if given["update"] not in ("none", "lora"):
        raise ConfigError(
            f"sampler.update is {given['update']!r}; it can be none (one-round recipes) or lora (vLLM's server)"
        )
    return given
