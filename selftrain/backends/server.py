"""The sampler of a server with OpenAI's completions protocol; vLLM's server gives ids, scores and adapters too."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from selftrain.backends import checkpoints
from selftrain.backends.served import Served, gap, served
from selftrain.backends.server_link import Rejected, ServerLink
from selftrain.backends.tokens import Tokenizer
from selftrain.backends.vllm import FRESH, TOLERANCE
from selftrain.errors import ConfigError, EngineError, near
from selftrain.lab import Completion, Request, Scored
from selftrain.records import JsonValue, seed_of

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
        self.concurrency = int(str(given["concurrency"]))
        key = given["api_key"] or os.environ.get("OPENAI_API_KEY")
        self._link = ServerLink(
            str(given["url"]).rstrip("/").removesuffix("/v1"),
            key=str(key) if key else None,
            timeout=float(str(given["timeout"])),
            tries=int(str(given["tries"])),
            threads=self.concurrency,
        )
        self._ids_prompt = True
        self._adapter: str | None = None
        with self._link.starting():
            self._base = self._served = served(checkpoint)
            self._tokens = Tokenizer(self._served.folder)
            self._link.submit(self._describe, given).result()
            self._adopt(self._served)

    def sample(self, requests: Sequence[Request], *, seed: int) -> Iterator[Completion]:
        """Yield one completion per request as they finish, one that the server refuses with the finish "failed".

        One without a sensible answer raises EngineError when all others were yielded; at once if nobody had any.
        """
        futures = {self._link.submit(self._one, request, seed_of(seed, request.id)): request for request in requests}

        def answers() -> Iterator[Completion]:
            failed: Exception | None = None
            try:
                for future in as_completed(futures):
                    error = future.exception()
                    if error is None:
                        yield future.result()
                    elif isinstance(error, Rejected):
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
        return self._link.each(self._score_one_by_one if self._update == "lora" else self._score, sequences)

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
            self._link.submit(self._post, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder}).result()
        old, self._adapter = self._adapter, name
        if old:
            self._link.submit(self._post, "/v1/unload_lora_adapter", {"lora_name": old}).result()
        self._adopt(new)

    def sleep(self) -> None:
        """Do nothing: the server's memory is its own."""

    def wake(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Hang up, on requests in flight too; the server goes on."""
        self._link.close()

    def _describe(self, given: Mapping[str, JsonValue]) -> None:
        """Ask the server what it serves."""
        listed = self._link.send("GET", "/v1/models", read=_models)
        names = [str(each["id"]) for each in listed]
        asked = given["model"]
        if asked is not None and asked not in names:
            raise ConfigError(f"the server has no model {asked!r}{near(str(asked), names)} (it has {', '.join(names)})")
        model = next(each for each in listed if asked in (None, each["id"]))
        self.model = str(model["id"])
        self.vllm = model.get("owned_by") == "vllm"
        self.version = "unknown"
        if self.vllm:
            self.version = self._link.send("GET", "/version", read=lambda said: str(said["version"]))
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
        self.gap = gap(new.probes, self._link.each(self._score_one_by_one, new.sequences))
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
            raise Rejected(f"a prompt of {len(request.prompt_ids)} tokens does not fit a context of {self.context}")
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
            except Rejected:
                if self.vllm:
                    raise
        answer = self._chosen({**body, "prompt": self._tokens.written(request.prompt_ids)})
        self._ids_prompt = False
        return answer

    def _chosen(self, body: Mapping[str, Any]) -> "_Choice":
        choice: _Choice = self._link.send("POST", "/v1/completions", body, read=_choice)
        try:
            choice.text.encode()
        except UnicodeEncodeError as error:
            raise Rejected(f"the server's text is no Unicode text: {error}") from error
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
        return self._link.send("POST", path, body)


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
