"""The scorer's process, forked by the nursery: it answers its owner's questions one by one."""

import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain import paths
from selftrain.backends import tokens
from selftrain.backends.process import die_with_owner, owner_pipe
from selftrain.errors import ModelError

if TYPE_CHECKING:
    from selftrain.records import Message

KEPT = {"transformers": 3, "vllm": 1}
"""Models that stay loaded."""
GPU_MEMORY = 0.2
"""Share of the GPU's memory that vLLM takes for a reward model: the sampling engine wants the rest."""


class Unfit(Exception):
    """A question that the model can't take; the text says why."""


class Model:
    """A loaded model with its tokenizer."""

    def __init__(self, name: str, kind: str) -> None:
        folder = folder_of(name)
        import torch

        from selftrain.backends import checkpoints, classifiers

        cuda = torch.cuda.is_available()
        self.name = name
        self.model: Any = classifiers.load(folder, kind, checkpoints.served_dtype(folder) if cuda else "float32")
        self.model.to("cuda" if cuda else "cpu")
        self.tokenizer: Any = tokens.load(folder)
        self.pad = classifiers.pad_token(self.model, self.tokenizer)
        self.context = int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 0) or 0)

    def score(self, conversations: "Sequence[Sequence[Message]]") -> list[float]:
        """Return the reward of each conversation."""
        from selftrain.backends import classifiers

        return classifiers.rewards(self.model, [self._fitting(self._whole(each)) for each in conversations], self.pad)

    def step_scores(self, prompt: "Sequence[Message]", responses: Sequence[Sequence[str]]) -> list[tuple[float, ...]]:
        """Return the probability that each step of each response is right."""
        from selftrain.backends import classifiers

        asked = self._rendered(prompt, ask=True)
        sequences, ends = [], []
        for steps in responses:
            ids, places = list(asked), []
            for step in steps:
                more = self.tokenizer.encode(step, add_special_tokens=False)
                if not more:
                    raise Unfit("a step is empty: it has no token to be judged at")
                ids += more
                places.append(len(ids) - 1)
            sequences.append(self._fitting(ids))
            ends.append(places)
        return classifiers.chances(self.model, sequences, ends, self.pad)

    def _whole(self, turns: "Sequence[Message]") -> list[int]:
        """Return the ids of a conversation that has ended."""
        ids = self._rendered(turns, ask=False)
        end = self.tokenizer.eos_token_id
        bare = not self.tokenizer.chat_template and end is not None and ids[-1:] != [end]
        return [*ids, end] if bare else ids

    def _rendered(self, turns: "Sequence[Message]", *, ask: bool) -> list[int]:
        """Return the ids of turns, up to where the model would answer if `ask`; as backends/tokens.py makes them."""
        if not self.tokenizer.chat_template:
            # A base model: the response follows the prompt as it is.
            prompt, response = (turns, "") if ask else (turns[:-1], turns[-1]["content"])
            text = "\n".join(turn["content"] for turn in prompt) + response
            return list(self.tokenizer.encode(text, add_special_tokens=True))
        try:
            text = self.tokenizer.apply_chat_template(list(turns), add_generation_prompt=ask, tokenize=False)
        except Exception as error:  # a template raises what it likes
            raise Unfit(f"the chat template of {self.name} refuses the conversation: {error}") from error
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _fitting(self, ids: list[int]) -> list[int]:
        if self.context and len(ids) > self.context:
            raise Unfit(
                f"a conversation of {len(ids)} tokens is longer than the context of {self.name}, {self.context}"
            )
        if not ids:
            raise Unfit("the conversation is empty")
        return ids


class Pooled(Model):
    """A reward model that vLLM serves (pooling, sequence classification): the same ids, the same numbers, in batches
    that it makes itself."""

    def __init__(self, name: str, kind: str) -> None:
        folder = folder_of(name)
        import torch
        from vllm import LLM

        from selftrain.backends import classifiers

        classifiers.check(folder, kind)
        cpu = not torch.cuda.is_available()
        device = (
            {"enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 2**28, "dtype": "float32"}
            if cpu
            else {"gpu_memory_utilization": GPU_MEMORY, "dtype": "bfloat16"}
        )
        self.name = name
        self.engine: Any = LLM(model=str(folder), runner="pooling", disable_log_stats=True, **device)
        self.tokenizer: Any = tokens.load(folder)
        self.context = int(self.engine.model_config.max_model_len)

    def score(self, conversations: "Sequence[Sequence[Message]]") -> list[float]:
        """Return the reward of each conversation."""
        from vllm import PoolingParams
        from vllm.inputs import TokensPrompt

        asked = [TokensPrompt(prompt_token_ids=self._fitting(self._whole(each))) for each in conversations]
        params = PoolingParams(use_activation=False)
        found = self.engine.encode(asked, pooling_params=params, pooling_task="classify", use_tqdm=False)
        return [float(each.outputs.data[0]) for each in found]


def folder_of(name: str) -> Path:
    """Return the folder of a model: a checkpoint of a run, or whatever else can be named as a model."""
    from selftrain.backends import checkpoints, models

    folder = paths.typed(name)
    return checkpoints.serve_of(folder) if (folder / "checkpoint.json").is_file() else models.resolve(name)


def main(arguments: Sequence[str]) -> None:
    """Answer until the owner hangs up."""
    die_with_owner()
    pipe = owner_pipe()
    engine = arguments[0] if arguments else "transformers"
    loaded = Pooled if engine == "vllm" else Model
    kept: OrderedDict[tuple[str, str], Model] = OrderedDict()
    while True:
        try:
            op, name, *details = pipe.recv()
        except EOFError:
            return
        try:
            key = (name, "reward" if op == "score" else "steps")
            if key not in kept and len(kept) == KEPT[engine]:
                kept.popitem(last=False)
            kept[key] = kept.pop(key) if key in kept else loaded(*key)
            pipe.send(("done", getattr(kept[key], op)(*details)))
        except ModelError as error:
            pipe.send(("model", str(error)))
        except Unfit as error:
            pipe.send(("question", str(error)))


if __name__ == "__main__":
    main(sys.argv[1:])
