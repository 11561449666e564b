"""The vLLM sampler: one engine process for the whole run, whose weights are swapped in place and then probed."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from selftrain.backends.engine_sampler import EngineSampler
from selftrain.backends.process import Child, start
from selftrain.backends.served import Served, dtype_of, gap, lacks_head, refuse_incomplete, same_model, served
from selftrain.backends.tokens import stop_ids
from selftrain.errors import EngineError, ModelError
from selftrain.records import JsonValue, seed_of

log = logging.getLogger(__name__)

TOLERANCE = {"float32": 0.002, "half": 0.1}
"""Largest mean difference, in nats per token, between a swapped model's log-probabilities and its trainer's.

Typical is 0.00001 in float32 and 0.05 in bfloat16, where either side alone is 0.03 from the exact value.
"""
FRESH = 3.0
"""An engine that read the weights from scratch may differ so many times more: rounding is then all it can be."""


class VllmSampler(EngineSampler):
    """Samples with vLLM. `settings` are arguments of vLLM's engine, by name."""

    kind = "vllm"
    module = "selftrain.backends.vllm_engine"

    def __init__(
        self,
        model: Path,
        *,
        log: Path,
        settings: Mapping[str, JsonValue] | None = None,
        seed: int = 0,
        python: str = sys.executable,
    ) -> None:
        self._settings = dict(settings or {})
        self._seed = seed
        self._asleep = False
        super().__init__(model, log=log, python=python)

    def load(self, checkpoint: Path) -> None:
        """Serve these weights from now on: swap them in place, or start again where that isn't possible or fails."""
        new = served(checkpoint)
        with self._loading, self._link.exclusive():
            if new.id == self._served.id and not self._asleep:
                return
            old, swap = self._served, same_model(self._served, new)
            if swap:
                refuse_incomplete(old, new)
                if lacks_head(new):
                    if new.own:
                        raise ModelError(
                            f"{new.folder} has tied embeddings but no lm_head.weight, without which vLLM keeps the old "
                            "output layer at a swap; it was not loaded, write lm_head.weight out"
                        )
                    swap = False
            self._served = new
            if not (swap and self._swapped(new)):
                self._link.restart()
                self._started()
            self._asleep = False

    def sleep(self) -> None:
        """Give the device's memory back, for training beside it; on CPU it does nothing."""
        with self._loading, self._link.exclusive():
            if self._link.info["device"] != "cpu":
                self._link.call("sleep", {})
                self._asleep = True

    def wake(self) -> None:
        """Take the memory again and load the weights that were served; `load` wakes the engine too."""
        with self._loading, self._link.exclusive():
            if self._asleep and not self._swapped(self._served):
                self._link.restart()
                self._started()
            self._asleep = False

    def _launch(self, starts: int) -> Child:
        settings = {
            "model": str(self._served.folder),
            "seed": seed_of(self._seed, starts),
            "stop_ids": stop_ids(self._served.folder),
            # vLLM's own choice for float32 weights is half precision.
            "arguments": {"dtype": dtype_of(self._served), **self._settings},
        }
        quiet = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
        env = {name: value for name, value in quiet.items() if name not in os.environ}
        return start(self.module, json.dumps(settings), log=self._log, python=self._python, env=env)

    def _swapped(self, new: Served) -> bool:
        """Swap the weights in place; False, with the reason logged, if the engine can't be trusted afterwards."""
        try:
            found = self._link.call("load", {"serve": str(new.folder), "probe": new.sequences})
        except EngineError as error:
            log.warning("the engine was lost while it swapped weights: %s", error)
            return False
        distrust = self._distrust(new, found)
        if distrust:
            log.warning("%s after a swap to %s; starting the engine again", distrust, new.folder)
            return False
        log.info("weights swapped in %.2f s, probe differs by %.4f nats a token", found["seconds"], self.gap or 0.0)
        return True

    def _distrust(self, new: Served, found: Mapping[str, JsonValue]) -> str:
        if not found["reset"]:
            return "the prefix cache could not be reset"
        if found["stale"]:
            return f"the prefix cache still held {found['stale']} tokens of the old weights"
        before, after = found["before"], found["after"]
        assert isinstance(after, list)
        self.gap = gap(new.probes, after) if new.probes else None
        if self.gap is not None and not self.gap <= self.tolerance:
            return f"the probe differs by {self.gap:.4f} nats a token (at most {self.tolerance})"
        if before and before == after:
            return "the probe scores exactly as under the old weights"
        return ""

    def _started(self) -> None:
        """Describe an engine that was just started, and compare it with its checkpoint's probe."""
        info = self._link.info
        self.version, self.dtype = str(info["version"]), str(info["dtype"])
        self.context, self.concurrency = int(info["context"]), int(info["concurrency"])
        self.tolerance = TOLERANCE.get(self.dtype, TOLERANCE["half"])
        new, self.gap = self._served, None
        if not new.probes:
            return
        self.gap = gap(new.probes, self._link.call("score_alone", {"probe": new.sequences}, again=True))
        if not self.gap <= FRESH * self.tolerance:
            raise EngineError(
                f"vLLM serves {new.folder} with log-probabilities that differ from the trainer's by {self.gap:.4f} "
                f"nats a token, even freshly started (at most {FRESH * self.tolerance:.4f}); "
                "is probe.json of these weights?"
            )
