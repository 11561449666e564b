"""The transformers sampler, for tiny models and machines without vLLM: exact, repeatable, in a process of its own."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from selftrain.backends import nursery
from selftrain.backends.engine_sampler import EngineSampler
from selftrain.backends.process import Child
from selftrain.backends.served import Served, gap, refuse_incomplete, same_model, served
from selftrain.backends.vllm import TOLERANCE
from selftrain.errors import ConfigError, EngineError, near
from selftrain.records import JsonValue

log = logging.getLogger(__name__)

SETTINGS: dict[str, JsonValue] = {
    "concurrency": 256,
    "context": None,
    "device": None,
    "dtype": "auto",
    "threads": None,
}
"""Settings and their defaults; None is what model and machine have."""
_COUNT = Annotated[int, Field(ge=1)]
TYPES: Mapping[str, Any] = {
    "concurrency": _COUNT,
    "context": _COUNT,
    "device": Annotated[str, Field(pattern=r"^(cpu|cuda|mps|xpu)(:\d+)?$")],
    "dtype": Literal["auto", "bfloat16", "float16", "float32"],
    "threads": _COUNT,
}
PRELOAD = (*nursery.MODELS, "selftrain.backends.decoding")


class TransformersSampler(EngineSampler):
    """Samples with transformers. What a call of `sample` yields depends on weights, requests and seed only."""

    kind = "transformers"
    module = "selftrain.backends.transformers_engine"
    whole = True

    def __init__(
        self,
        model: Path,
        *,
        log: Path,
        settings: Mapping[str, JsonValue] | None = None,
        python: str = sys.executable,
    ) -> None:
        for name in settings or {}:
            if name not in SETTINGS:
                raise ConfigError(
                    f"the transformers sampler has no setting {name!r}{near(name, SETTINGS)} "
                    f"(it has {', '.join(SETTINGS)})"
                )
        self._settings = SETTINGS | dict(settings or {})
        self.concurrency = int(str(self._settings["concurrency"]))
        super().__init__(model, log=log, python=python)

    def load(self, checkpoint: Path) -> None:
        """Serve these weights from now on; a probe confirms them."""
        new = served(checkpoint)
        with self._loading, self._link.exclusive():
            if new.id == self._served.id:
                return
            if same_model(self._served, new):
                refuse_incomplete(self._served, new)
            # Set first, so that an engine lost from here on starts with the new weights.
            self._served = new
            self._describe(self._link.call("load", {"serve": str(new.folder)}))
            self._probe(new)

    def sleep(self) -> None:
        """Do nothing: a model this small leaves room beside it."""

    def wake(self) -> None:
        """Do nothing."""

    def _started(self) -> None:
        self._describe(self._link.info)
        self._probe(self._served)

    def _describe(self, info: Mapping[str, JsonValue]) -> None:
        self.version, self.dtype = str(info["version"]), str(info["dtype"])
        self.context = int(str(info["context"]))
        self.tolerance = TOLERANCE.get(self.dtype, TOLERANCE["half"])

    def _launch(self, starts: int) -> Child:
        settings = {"model": str(self._served.folder), **self._settings}
        quiet = {"TOKENIZERS_PARALLELISM": "false"}
        env = {name: value for name, value in quiet.items() if name not in os.environ}
        return nursery.start(
            self.module, json.dumps(settings), log=self._log, preload=PRELOAD, python=self._python, env=env
        )

    def _probe(self, new: Served) -> None:
        self.gap = None
        if not new.probes:
            return
        self.gap = gap(new.probes, self.score(new.sequences))
        if not self.gap <= self.tolerance:
            raise EngineError(
                f"{new.folder} is served with log-probabilities that differ from the trainer's by {self.gap:.4f} nats "
                f"a token (at most {self.tolerance}); is probe.json of these weights?"
            )
