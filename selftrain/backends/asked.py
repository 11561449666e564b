"""A model that verifiers may ask outside of a run: an engine of its own, for as long as a command judges."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from selftrain.backends import models
from selftrain.backends.local import LocalBackends
from selftrain.lab import AskedModel, EngineModel, Sampler
from selftrain.loop.runfile import run_file


@contextlib.contextmanager
def asked_model(name: str | None, *, seed: int = 0) -> Iterator[AskedModel | None]:
    """Have a model by its name, folder or hub id ready to be asked; None for None.

    Its engine starts with the first question. Raises ModelError where there is no such model.
    """
    if name is None:
        yield None
        return
    folder = models.resolve(name)
    models.check(folder)
    with tempfile.TemporaryDirectory(prefix="selftrain-asked-") as place, contextlib.ExitStack() as started:
        work = Path(place)
        backends = LocalBackends(run_file({"recipe": "verify", "model": name, "seed": seed}), folder, work, ())
        trainer = backends.trainer()
        try:
            trainer.prepare(folder, work / "checkpoint")
        finally:
            trainer.close()
        engines: list[Sampler] = []

        def engine() -> Sampler:
            if not engines:
                engines.append(backends.sampler(work / "checkpoint"))
                started.callback(engines[0].close)
            return engines[0]

        tokens = backends.tokens(work / "checkpoint")
        yield EngineModel(engine, tokens, "asked", seed, work / "checkpoint")
