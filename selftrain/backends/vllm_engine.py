"""The vLLM process: `python -m selftrain.backends.vllm_engine SETTINGS`. Nothing else lives in it.

Between two steps of the engine it reads its owner's pipe, so requests of many callers join one queue. What goes wrong
inside a step ends the process; its owner starts another.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from selftrain.backends.process import die_with_owner, owner_pipe
from selftrain.errors import near
from selftrain.lab import Completion, Request, Scored

BEAT_SECONDS = 5.0
KV_CACHE_BYTES = 2 * 2**30
CPU_SEQUENCES = 128


class Place(NamedTuple):
    """Where an answer belongs: job, item, and what was asked."""

    job: int
    item: int
    asked: Request | Scored


class Refused(Exception):
    """The settings are wrong; the text says which and what to do."""


class Engine:
    """vLLM's engine with the requests that are in it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        self.cpu = bool(current_platform.is_cpu())
        if self.cpu:
            _draw_by_rows()
        # As of `vllm.LLM`: how many sequences at once then follows from the device's memory, and is not 128 on any.
        usage = UsageContext.ENGINE_CONTEXT if self.cpu else UsageContext.LLM_CLASS
        self.engine: Any = LLMEngine.from_engine_args(_arguments(settings, self.cpu), usage_context=usage)
        self.stops = [int(each) for each in settings["stop_ids"]]
        self.open: dict[str, Place] = {}
        self.asleep = False
        self.serial = 0

    def info(self) -> dict[str, Any]:
        """Return what the owner has to know of the engine."""
        import vllm

        config = self.engine.vllm_config
        return {
            "engine": f"vLLM {vllm.__version__}",
            "version": vllm.__version__,
            "context": config.model_config.max_model_len,
            "concurrency": config.scheduler_config.max_num_seqs,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "block": config.cache_config.block_size,
            "device": "cpu" if self.cpu else "cuda",
        }

    def add(self, place: Place, seed: int) -> None:
        """Queue one request; raises vLLM's error for one that it cannot take."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        asked = place.asked
        if isinstance(asked, Scored):
            ids = [*asked.prompt_ids, *asked.completion_ids]
            # Requests for prompt log-probabilities never read the prefix cache: a cached block has no logits.
            params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        else:
            ids = list(asked.prompt_ids)
            wanted = asked.sampling
            params = SamplingParams(
                n=1,
                temperature=wanted.temperature,
                top_p=wanted.top_p,
                top_k=wanted.top_k,
                max_tokens=wanted.max_tokens,
                stop=list(wanted.stop),
                stop_token_ids=self.stops,
                logprobs=0 if wanted.logprob else None,
                seed=seed if wanted.temperature > 0 else None,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        self.serial += 1
        name = str(self.serial)
        self.engine.add_request(name, TokensPrompt(prompt_token_ids=ids), params)
        self.open[name] = place

    def abort(self, job: int) -> None:
        """Drop a job's requests."""
        names = [name for name, place in self.open.items() if place.job == job]
        self.engine.abort_request(names)
        for name in names:
            del self.open[name]

    def step(self) -> list[tuple[int, int, Any]]:
        """Do one step and return the answers that it finished."""
        done = []
        for output in self.engine.step():
            if output.finished and output.request_id in self.open:
                place = self.open.pop(output.request_id)
                done.append((place.job, place.item, _answer(place.asked, output)))
        return done

    def load(self, serve: str, probe: list[Scored]) -> dict[str, Any]:
        """Swap the weights in place, and return how the engine scores the probe before and after."""
        began = time.monotonic()
        canary = self._canary(probe)
        # A model that slept has no weights to score with, and its cache is gone.
        before = [] if self.asleep else self._score(probe)
        if not self.asleep:
            self._cached(canary)
        self._wake("weights")
        self.engine.collective_rpc("reload_weights", kwargs={"weights_path": serve})
        self._wake("kv_cache")
        self.asleep = False
        reset = bool(self.engine.reset_prefix_cache())
        stale = self._cached(canary)
        scored = self._score(probe)
        return {
            "reset": reset, "stale": stale, "before": before, "after": scored, "seconds": time.monotonic() - began
        }  # fmt: skip

    def score_alone(self, probe: list[Scored]) -> list[tuple[float, ...]]:
        """Score sequences while nothing else is in the engine."""
        return self._score(probe)

    def sleep(self) -> None:
        """Give back the memory of weights and cache; on CPU nothing would be gained, so nothing is done."""
        if not self.cpu and not self.asleep:
            self.engine.reset_prefix_cache()
            self.engine.sleep(level=2)
            self.asleep = True

    def _wake(self, what: str) -> None:
        if self.asleep:
            self.engine.wake_up([what])

    def _canary(self, probe: list[Scored]) -> list[int]:
        """Return a prompt of at least two cache blocks."""
        ids = [*probe[0].prompt_ids, *probe[0].completion_ids] if probe else [1, 2, 3, 4]
        block = int(self.engine.vllm_config.cache_config.block_size)
        wanted = min(2 * block + 1, int(self.engine.vllm_config.model_config.max_model_len) - 1)
        return (ids * (wanted // len(ids) + 1))[:wanted]

    def _cached(self, ids: list[int]) -> int:
        """Run a prompt, which leaves it in the prefix cache; return how many of its tokens were there already."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        self.engine.add_request("canary", TokensPrompt(prompt_token_ids=ids), SamplingParams(max_tokens=1))
        found = 0
        while self.engine.has_unfinished_requests():
            for output in self.engine.step():
                found = int(output.num_cached_tokens or 0)
        return found

    def _score(self, sequences: list[Scored]) -> list[tuple[float, ...]]:
        for item, each in enumerate(sequences):
            self.add(Place(-1, item, each), 0)
        scores: dict[int, tuple[float, ...]] = {}
        while len(scores) < len(sequences):
            scores |= {item: answer for _, item, answer in self.step()}
        return [scores[item] for item in range(len(sequences))]


def _arguments(settings: Mapping[str, Any], cpu: bool) -> Any:
    from vllm.engine.arg_utils import EngineArgs

    own: dict[str, Any] = {
        "model": settings["model"],
        "seed": settings["seed"],
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if cpu:
        # Chunked prompts break seeded sampling on CPU, whose generators cannot step back.
        own |= {
            "enforce_eager": True,
            "block_size": 32,
            "kv_cache_memory_bytes": KV_CACHE_BYTES,
            "enable_chunked_prefill": False,
            "max_num_seqs": CPU_SEQUENCES,
        }
    else:
        own["enable_sleep_mode"] = True
    given = settings["arguments"]
    known = {each.name for each in fields(EngineArgs)}
    for name in given:
        if name not in known:
            raise Refused(f"vLLM's engine has no argument {name!r}{near(name, known)}")
        if name in ("model", "seed"):
            raise Refused(f"vLLM's argument {name!r} is set by the run; remove it from the sampler's settings")
    try:
        return EngineArgs(**{**own, **given})
    except (TypeError, ValueError) as error:
        raise Refused(f"vLLM refuses the sampler's settings: {error}") from error


def _draw_by_rows() -> None:
    """Have vLLM draw tokens on CPU with one random number a row, where it makes one for each token of the vocabulary.

    With 49,152 of them that takes an eighth of a step. The distribution is the same, the numbers are others.
    """
    import torch
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler, apply_top_k_top_p

    from selftrain.backends.draws import drawn

    whole = TopKTopPSampler.forward_cpu

    def forward_cpu(self: Any, logits: Any, generators: Mapping[int, Any], k: Any, p: Any) -> Any:
        if self.use_fp64_gumbel or self.logprobs_mode.startswith("processed"):
            return whole(self, logits, generators, k, p)
        uniform = torch.rand(len(logits), dtype=torch.float64)
        for row, generator in generators.items():
            uniform[row] = torch.rand((), dtype=torch.float64, generator=generator)
        return drawn(apply_top_k_top_p(logits, k, p).softmax(-1, dtype=torch.float32), uniform), None

    TopKTopPSampler.forward_cpu = forward_cpu


def _answer(asked: Request | Scored, output: Any) -> Completion | tuple[float, ...]:
    if isinstance(asked, Scored):
        ids = [*asked.prompt_ids, *asked.completion_ids]
        first = len(asked.prompt_ids)
        table = output.prompt_logprobs
        return tuple(float(table[at][ids[at]].logprob) for at in range(first, len(ids)))
    sampled = output.outputs[0]
    return Completion(
        id=asked.id,
        ids=tuple(int(each) for each in sampled.token_ids),
        text=sampled.text,
        finish="stop" if sampled.finish_reason == "stop" else "length",
        logprob=float(sampled.cumulative_logprob) if asked.sampling.logprob else None,
    )


def _take(engine: Engine, message: tuple[Any, ...], pipe: Any) -> None:
    """Act on one message of the owner."""
    if message[0] == "abort":
        engine.abort(message[1])
        return
    from vllm.exceptions import VLLMClientError

    _, job, op, items = message
    if op in ("sample", "score"):
        for item, given in items:
            asked, seed = given if op == "sample" else (given, 0)
            try:
                engine.add(Place(job, item, asked), seed)
            except (ValueError, VLLMClientError) as error:
                pipe.send(("failed", [(job, item, f"vLLM refuses the request: {error}")]))
        return
    ((item, given),) = items
    pipe.send(("done", [(job, item, getattr(engine, op)(**given))]))


def serve(engine: Engine, pipe: Any) -> None:
    """Answer the owner until it hangs up."""
    beat = time.monotonic()
    while True:
        # Idle, it sleeps in recv; busy, it looks without waiting.
        while not engine.open or pipe.poll():
            _take(engine, pipe.recv(), pipe)
        done = engine.step()
        if done:
            pipe.send(("done", done))
        elif time.monotonic() - beat > BEAT_SECONDS:
            pipe.send(("beat",))
        else:
            continue
        beat = time.monotonic()


def main() -> None:
    """Start the engine as the first argument says, and serve."""
    die_with_owner()
    pipe = owner_pipe()
    settings = json.loads(sys.argv[1])
    given = settings["arguments"]
    devices = [given.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline", "data")]
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0" if devices == [1, 1, 1] else "1")
    try:
        engine = Engine(settings)
    except Refused as refusal:
        pipe.send(("refused", str(refusal)))
        return
    pipe.send(("ready", engine.info()))
    try:
        serve(engine, pipe)
    except EOFError:
        return


if __name__ == "__main__":
    main()
