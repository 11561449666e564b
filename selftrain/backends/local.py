"""The resources of a run on this machine: which sampler, trainer and workers, and what of them is part of a key."""

import hashlib
import inspect
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from selftrain import errors, lab, plugins, records
from selftrain.backends import arguments, models
from selftrain.backends.link import end_starting
from selftrain.errors import ConfigError, near
from selftrain.installed import has_cuda
from selftrain.lab import Sampler, Tokens, Trainer, Verifiers
from selftrain.loop.runfile import SECRETS, RunFile
from selftrain.records import Json, digest
from selftrain.verification.verify import LoadedVerifier, load_verifier, parse_spec

SMALL = 5_000_000
"""Parameters up to which `sampler: auto` takes the transformers sampler: there vLLM's overhead is the larger part."""

FREE = frozenset(
    {"block_size", "disable_log_stats", "enforce_eager", "gpu_memory_utilization", "kind", "kv_cache_memory_bytes"}
    | {"max_num_batched_tokens", "max_num_seqs", "python", "concurrency", "swap_space", "url", *SECRETS}
)
"""Settings of samplers that change the speed, not the data."""
OWN = frozenset({"model", "seed"})
"""Arguments of vLLM's engine that follow from the run's model and seed."""


def sampler_kind(file: RunFile, model: Path) -> tuple[str, str]:
    """Return the kind of sampler for a model, and why."""
    asked = str(file.sampler.get("kind", "auto"))
    if asked == "vllm" and not _version("vllm"):
        raise ConfigError(
            "sampler is vllm, but vLLM is not installed; `make setup` installs it, or say sampler=transformers"
        )
    if asked != "auto":
        return asked, "as asked"
    size = models.describe(model).parameters
    if size <= SMALL:
        return "transformers", f"auto: the model has {size / 1e6:.1f} M parameters, where vLLM's overhead is larger"
    if _version("vllm"):
        return "vllm", "auto"
    return "transformers", "auto: vLLM is not installed"


class LocalBackends:
    """Opens sampler, trainer and workers as processes of this machine."""

    def __init__(self, file: RunFile, model: Path, logs: Path, verifiers: Sequence[str]) -> None:
        self.file = file
        self.model = model
        self.logs = logs
        self.names = sorted(set(verifiers))
        self.kind, self.why = sampler_kind(file, model)
        self.settings = {name: value for name, value in file.sampler.items() if name not in ("kind", "python")}
        types = _types(self.kind)
        for name in self.settings:
            if name not in types:
                raise ConfigError(f"the {self.kind} sampler has no setting {name!r}{near(name, types)}")
        self.settings = arguments.typed(self.settings, types, "sampler.")
        self._check_places()
        self._tokenizers: dict[str, Tokens] = {}

    def _check_places(self) -> None:
        """Refuse what an engine or a training would only miss when it starts."""
        if self.kind == "server":
            from selftrain.backends import server

            server.checked(self.settings)
        for key, settings in (("sampler", self.file.sampler), ("trainer", self.file.trainer)):
            if (python := settings.get("python")) and shutil.which(str(python)) is None:
                raise ConfigError(f"{key}.python={python!r} is no interpreter; give the path of a Python")
        if (launch := self.file.trainer.get("launch")) and not Path(launch).is_file():
            raise ConfigError(f"trainer.launch={launch!r} is not there; `accelerate config` writes such a file")

    @property
    def concurrency(self) -> int:
        """How many samples the engine works on at once, as far as that is known before it is started."""
        small = models.describe(self.model).parameters <= SMALL
        usual = {"vllm": 512 if has_cuda() else 64, "transformers": 512 if small else 256, "server": 64}[self.kind]
        return int(self.settings.get("max_num_seqs", self.settings.get("concurrency", usual)))

    def sampler(self, checkpoint: Path) -> Sampler:
        """Start an engine that serves this checkpoint."""
        log = self.logs / "sampler.log"
        if self.kind == "vllm":
            from selftrain.backends.vllm import VllmSampler

            return VllmSampler(
                checkpoint, settings=self.settings, seed=self.file.seed, log=log, **_python(self.file.sampler)
            )
        if self.kind == "server":
            from selftrain.backends.server import ServerSampler

            return ServerSampler(checkpoint, settings=self.settings, seed=self.file.seed)
        from selftrain.backends.transformers_sampler import TransformersSampler

        settings = {"concurrency": self.concurrency, **self.settings}
        return TransformersSampler(checkpoint, settings=settings, log=log, **_python(self.file.sampler))

    def trainer(self) -> Trainer:
        """Start the trainer."""
        from selftrain.backends.trainer import TrlTrainer

        launch = self.file.trainer.get("launch")
        return TrlTrainer(
            log=self.logs / "trainer.log", launch=Path(launch) if launch else None, **_python(self.file.trainer)
        )

    def verifiers(self) -> Verifiers:
        """Start the verifiers' workers."""
        from selftrain.backends.pool import VerifierPool

        return VerifierPool(self.file.workers, log=self.logs / "verifiers.log", time_limit=self.file.time_limit)

    def tokens(self, checkpoint: Path) -> Tokens:
        """Open a checkpoint's tokenizer; one for all checkpoints that have the same."""
        from selftrain.backends.checkpoints import serve_of, verify
        from selftrain.backends.tokens import Tokenizer, files

        verify(checkpoint, "serve", weighty=False)
        folder = serve_of(checkpoint)
        # Each round has a copy of its own, and a tokenizer of many words takes a hundred megabytes of memory.
        known = files(folder)
        if known not in self._tokenizers:
            self._tokenizers[known] = Tokenizer(folder)
        return self._tokenizers[known]

    def identity(self, resource: str) -> Json:
        """What of a resource changes the data it makes."""
        if resource == "sampler":
            package = {"server": "", "vllm": "vllm"}.get(self.kind, "transformers")
            return {"engine": f"{self.kind} {_version(package)}".strip(), **_kept(self.settings, FREE)}
        if resource == "trainer":
            return {"engine": " ".join(f"{name} {_version(name)}" for name in ("trl", "peft", "transformers"))}
        return {name: _sources(load_verifier(name)) for name in self.names}

    def interrupt(self) -> None:
        """End engines that are being started, and stop asking a server that does not answer yet."""
        end_starting()
        if self.kind == "server":
            from selftrain.backends import server_link

            server_link.end_starting()


def _sources(verifier: LoadedVerifier) -> str:
    """Return the hash of what decides a verifier's verdicts: its file, what it takes from selftrain, and its parts."""
    module = plugins.load("verifier", parse_spec(verifier.spec).name)
    taken = {inspect.getmodule(each) for each in vars(module).values()} - {records, lab, errors, None}
    ours = [each for each in taken if each is not None and each.__name__.startswith("selftrain.")]
    files = {str(each.__file__) for each in (module, *ours)} | set(verifier.files)
    hashes = sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files)
    return digest(hashes, *map(_sources, verifier.parts))


def _types(kind: str) -> Mapping[str, Any]:
    """The settings of a sampler, with their types."""
    if kind == "vllm":
        return {name: hint for name, hint in arguments.vllm_types().items() if name not in OWN}
    if kind == "server":
        from selftrain.backends import server

        return server.TYPES
    from selftrain.backends import transformers_sampler

    return transformers_sampler.TYPES


def _kept(settings: Mapping[str, Any], free: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in free}


def _python(settings: Mapping[str, Any]) -> dict[str, str]:
    return {"python": str(settings["python"])} if "python" in settings else {}


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        try:
            return version(name)
        except (PackageNotFoundError, ValueError):
            continue
    return ""
