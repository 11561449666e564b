"""The transformers sampler's process, forked by the nursery.

Jobs are done one after the other and a batch never holds requests of two jobs, so what a job samples depends on
nothing but the weights, its requests and its seeds.
"""

import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain.backends.process import die_with_owner, owner_pipe
from selftrain.lab import Completion, Request, Scored

if TYPE_CHECKING:
    from selftrain.backends.decoding import Asked, Sampled

BEAT_SECONDS = 5.0


class Engine:
    """A model, its tokenizer, and the jobs that wait."""

    def __init__(self, pipe: Any, settings: Mapping[str, Any]) -> None:
        import torch

        self.pipe = pipe
        self.settings = settings
        self.device = str(settings["device"] or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            why = str(error).strip().partition("\n")[0]
            raise Refused(f"sampler.device={self.device!r} can't be used ({why}); name another") from error
        # The number of threads decides how sums are split, so it is fixed rather than left to what is free.
        said = settings["threads"] or os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))
        torch.set_num_threads(int(said))
        self.waiting: deque[tuple[Any, ...]] = deque()
        self.info = self.load(settings["model"])

    def load(self, serve: str) -> dict[str, Any]:
        """Load a model folder and return what the owner has to know of it."""
        import transformers

        from selftrain.backends import tokens
        from selftrain.backends.checkpoints import load
        from selftrain.backends.tokens import end_of_turn, stop_ids

        folder = Path(serve)
        tokenizer = tokens.load(folder)
        self.model: Any = load(folder, self._dtype(folder)).to(self.device)
        self.tokenizer = tokenizer
        self.ends = sorted({end_of_turn(folder, tokenizer), *stop_ids(folder)})
        config = self.model.config.get_text_config()
        layers = set(getattr(config, "layer_types", None) or ["full_attention"])
        if layers != {"full_attention"}:
            raise Refused(
                f"the model in {folder} has layers of kind {', '.join(sorted(layers))}; "
                "the transformers sampler knows full attention only, use vLLM"
            )
        self.context = min(config.max_position_embeddings, self.settings["context"] or config.max_position_embeddings)
        return {
            "engine": f"transformers {transformers.__version__}",
            "version": transformers.__version__,
            "context": self.context,
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }

    def score(self, sequences: Sequence[Scored]) -> list[tuple[float, ...]]:
        """Return the log-probability of each completion token."""
        from selftrain.backends.checkpoints import score

        # Neighbours in a batch are of like length; the order that was asked for comes back at the end.
        order = sorted(range(len(sequences)), key=lambda at: sum(map(len, sequences[at])))
        scores = score(self.model, [(sequences[at].prompt_ids, sequences[at].completion_ids) for at in order], 32)
        found = dict(zip(order, scores, strict=True))
        return [found[at] for at in range(len(sequences))]

    def sample(self, job: int, items: Sequence[tuple[int, tuple[Request, int]]]) -> None:
        """Answer a job's requests, batch by batch, the longest prompts first."""
        from selftrain.backends.decoding import Asked, decode

        asked: list[tuple[int, Asked]] = []
        for item, (request, seed) in items:
            limit = min(request.sampling.max_tokens, self.context - len(request.prompt_ids))
            if limit < 1 or not request.prompt_ids:
                why = f"a prompt of {len(request.prompt_ids)} tokens does not fit a context of {self.context}"
                self.pipe.send(("failed", [(job, item, why)]))
            else:
                asked.append((item, Asked(request, seed, limit)))
        asked.sort(key=lambda each: (-len(each[1].request.prompt_ids), each[1].request.prompt_ids, each[0]))
        size = self.settings["concurrency"]
        for first in range(0, len(asked), size):
            part = asked[first : first + size]
            batch = [each for _, each in part]
            for done in self._watched(job, decode(self.model, batch, self.ends, self._stopper(batch))):
                self.pipe.send(
                    ("done", [(job, part[one.row][0], self._completion(part[one.row][1], one)) for one in done])
                )
            if self._aborted(job):
                return

    def serve(self) -> None:
        """Answer the owner until it hangs up."""
        while True:
            message = self.waiting.popleft() if self.waiting else self.pipe.recv()
            if message[0] == "abort":
                continue
            _, job, op, items = message
            if self._aborted(job):
                continue
            if op == "sample":
                self.sample(job, items)
            elif op == "score":
                scores = self.score([sequence for _, sequence in items])
                self.pipe.send(("done", [(job, item, score) for (item, _), score in zip(items, scores, strict=True)]))
            else:
                ((item, given),) = items
                try:
                    self.pipe.send(("done", [(job, item, self.load(**given))]))
                except Refused as refusal:
                    self.pipe.send(("failed", [(job, item, str(refusal))]))

    def _dtype(self, folder: Path) -> str:
        from selftrain.backends.checkpoints import served_dtype

        return served_dtype(folder, self.settings["dtype"])

    def _watched(self, job: int, steps: "Iterator[list[Sampled]]") -> "Iterator[list[Sampled]]":
        """Pass a batch's results on, with a sign of life now and then."""
        beat = time.monotonic()
        for done in steps:
            yield done
            if time.monotonic() - beat > BEAT_SECONDS:
                self.pipe.send(("beat",))
                beat = time.monotonic()

    def _aborted(self, job: int) -> bool:
        while self.pipe.poll():
            self.waiting.append(self.pipe.recv())
        return ("abort", job) in self.waiting

    def _stopper(self, batch: "Sequence[Asked]") -> Any:
        def stopped(row: int, ids: list[int]) -> bool:
            wanted = batch[row].request.sampling.stop
            # A character is at most four tokens (bytes), so this tail holds any stop string that just ended.
            tail = ids[-4 * max(map(len, wanted)) - 4 :]
            text = self.tokenizer.decode(tail, skip_special_tokens=True)
            return any(each in text for each in wanted)

        return stopped

    def _completion(self, asked: "Asked", sampled: "Sampled") -> Completion:
        text = self.tokenizer.decode(sampled.ids, skip_special_tokens=True)
        for stop in asked.request.sampling.stop:
            text = text.split(stop, 1)[0]
        logprob = sampled.logprob if asked.request.sampling.logprob else None
        return Completion(id=asked.request.id, ids=sampled.ids, text=text, finish=sampled.finish, logprob=logprob)


class Refused(Exception):
    """The model cannot be sampled here; the text says why."""


def main(arguments: Sequence[str]) -> None:
    """Load the model that the first argument names, and serve."""
    die_with_owner()
    pipe = owner_pipe()
    try:
        engine = Engine(pipe, json.loads(arguments[0]))
    except Refused as refusal:
        pipe.send(("refused", str(refusal)))
        return
    pipe.send(("ready", engine.info))
    try:
        engine.serve()
    except EOFError:
        return


if __name__ == "__main__":
    main(sys.argv[1:])
