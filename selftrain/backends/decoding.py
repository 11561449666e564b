"""Sampling from a transformers model: one batch of prompts, a cache with room, a random stream per request."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicLayer

from selftrain.backends.draws import drawn
from selftrain.lab import Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPARE = 64
"""Columns of a new cache beyond the prompt; it doubles when they are full."""
THIN = 0.9
"""A batch is compacted when no more than this share of its rows is still sampling."""


class Asked(NamedTuple):
    """A request, the seed of its random stream, and how many tokens it may get."""

    request: Request
    seed: int
    limit: int


class Sampled(NamedTuple):
    """What a row of the batch came to."""

    row: int
    ids: tuple[int, ...]
    finish: str
    logprob: float


class Roomy(DynamicLayer):  # type: ignore[misc]
    """A cache layer with spare columns: a step writes one column instead of copying all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Append keys and values, and return all of them."""
        stop = self.length + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = (_room(each, stop + SPARE) for each in (key_states, value_states))
        elif stop > self.keys.shape[-2]:
            self.keys, self.values = (_grown(each, 2 * stop) for each in (self.keys, self.values))
        self.keys[:, :, self.length : stop] = key_states
        self.values[:, :, self.length : stop] = value_states
        self.length = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_seq_length(self) -> int:
        """Return how many columns are filled."""
        return self.length

    def spread(self, rows: torch.Tensor) -> None:
        """Make the cache of these rows, in this order; a row may be taken several times."""
        for name in ("keys", "values"):
            states = getattr(self, name)
            spread = states.new_empty((len(rows), *states.shape[1:]))
            spread[:, :, : self.length] = states[rows, :, : self.length]
            setattr(self, name, spread)

    def move(self, sources: torch.Tensor, targets: torch.Tensor, left: int) -> None:
        """Put rows in the places of others, and drop all rows from `left` on."""
        for name in ("keys", "values"):
            states = getattr(self, name)
            states[targets, :, : self.length] = states[sources, :, : self.length]
            setattr(self, name, states[:left])


class Settings(NamedTuple):
    """Sampling settings of the rows, as columns."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    top_k: torch.Tensor
    filtered: bool

    @classmethod
    def of(cls, batch: Sequence[Asked], device: torch.device) -> "Settings":
        """Return the settings of a batch."""
        each = [asked.request.sampling for asked in batch]
        return cls(
            torch.tensor([one.temperature for one in each], device=device)[:, None],
            torch.tensor([one.top_p for one in each], device=device)[:, None],
            torch.tensor([one.top_k for one in each], device=device)[:, None],
            any(one.top_p < 1 or one.top_k > 0 for one in each),
        )

    def take(self, rows: torch.Tensor) -> "Settings":
        """Return the settings of these rows."""
        return Settings(self.temperature[rows], self.top_p[rows], self.top_k[rows], self.filtered)


def choose(logits: torch.Tensor, settings: Settings, uniform: torch.Tensor) -> torch.Tensor:
    """Return a token per row: the likeliest at temperature 0, else by inverting the cumulative distribution."""
    greedy = settings.temperature == 0
    probs = (logits / settings.temperature.masked_fill(greedy, 1.0)).softmax(-1)
    if settings.filtered:
        probs = _filter(probs, settings)
    return torch.where(greedy[:, 0], logits.argmax(-1), drawn(probs, uniform))


@torch.inference_mode()  # type: ignore[untyped-decorator]
def decode(
    model: "PreTrainedModel", batch: Sequence[Asked], ends: Sequence[int], stopped: Callable[[int, list[int]], bool]
) -> Iterator[list[Sampled]]:
    """Sample a batch; yield, step by step, what has finished.

    `stopped` is asked of the rows that have stop strings whether their ids so far contain one.
    """
    device = model.device
    cache = Cache(layer_class_to_replicate=Roomy)
    logits, seen, position = _prefill(model, batch, cache)
    end_ids = torch.tensor(list(ends), device=device)
    settings = Settings.of(batch, device)
    limits = torch.tensor([asked.limit for asked in batch], device=device)
    longest = int(limits.max())
    uniform = torch.stack([_stream(asked, longest) for asked in batch]).to(device)
    watched = [row for row, asked in enumerate(batch) if asked.request.sampling.stop]
    scored = any(asked.request.sampling.logprob for asked in batch)
    rows = torch.arange(len(batch), device=device)
    live = torch.ones(len(batch), dtype=torch.bool, device=device)
    out = torch.zeros(len(batch), longest, dtype=torch.long, device=device)
    logprobs = torch.zeros(len(batch), dtype=torch.float64, device=device)
    for step in range(longest):
        tokens = choose(logits, settings, uniform[rows, step])
        out[rows, step] = tokens
        if scored:
            picked = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0].double()
            logprobs[rows] += picked * live
        ended = torch.isin(tokens, end_ids)
        for row in watched:
            at = (rows == row).nonzero()
            if len(at) and live[at[0, 0]] and stopped(row, out[row, : step + 1].tolist()):
                ended[at[0, 0]] = True
        finished = live & (ended | (limits[rows] <= step + 1))
        if finished.any():
            yield [
                Sampled(row, tuple(out[row, : step + 1].tolist()), "stop" if end else "length", float(logprobs[row]))
                for row, end in zip(rows[finished].tolist(), ended[finished].tolist(), strict=True)
            ]
            live &= ~finished
            left = int(live.sum())
            if not left:
                return
            if left <= THIN * len(rows):
                # Rows from behind move to the places of finished ones: that copies few of them.
                gaps, movers = (~live[:left]).nonzero()[:, 0], left + live[left:].nonzero()[:, 0]
                for layer in cache.layers:
                    layer.move(movers, gaps, left)
                kept = torch.arange(left, device=device)
                kept[gaps] = movers
                rows, tokens, position, seen, live = rows[kept], tokens[kept], position[kept], seen[kept], live[kept]
                settings = settings.take(kept)
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
        logits = _forward(model, tokens[:, None], seen[:, None, None], position[:, None], cache)
        position = position + 1


def _prefill(
    model: "PreTrainedModel", batch: Sequence[Asked], cache: Cache
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run the distinct prompts, padded at the left, and give every row the cache of its own."""
    prompts = list(dict.fromkeys(asked.request.prompt_ids for asked in batch))
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    seen = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        seen[row, width - len(prompt) :] = True
    ids, seen = ids.to(model.device), seen.to(model.device)
    position = (seen.long().cumsum(-1) - 1).clamp(min=0)
    causal = torch.ones(width, width, dtype=torch.bool, device=model.device).tril()
    # Padding sees itself: a row of attention that sees nothing is NaN, and NaN spreads.
    itself = torch.eye(width, dtype=torch.bool, device=model.device)
    logits = _forward(model, ids, (causal & seen[:, None] | itself)[:, None], position, cache)
    index = {prompt: row for row, prompt in enumerate(prompts)}
    rows = torch.tensor([index[asked.request.prompt_ids] for asked in batch], device=model.device)
    for layer in cache.layers:
        layer.spread(rows)
    return logits[rows], seen[rows], position[rows, -1] + 1


def _forward(
    model: "PreTrainedModel", ids: torch.Tensor, mask: torch.Tensor, position: torch.Tensor, cache: Cache
) -> torch.Tensor:
    result = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = result.logits[:, -1].float()
    return logits


def _filter(probs: torch.Tensor, settings: Settings) -> torch.Tensor:
    ordered, order = probs.sort(dim=-1, descending=True)
    rank = torch.arange(probs.shape[-1], device=probs.device)
    before = ordered.cumsum(-1) - ordered
    cut = (before >= settings.top_p) | ((settings.top_k > 0) & (rank >= settings.top_k))
    cut[:, 0] = False
    return torch.zeros_like(probs).scatter(-1, order, ordered.masked_fill(cut, 0.0))


def _stream(asked: Asked, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(asked.seed)
    numbers = torch.zeros(length, dtype=torch.float64)
    numbers[: asked.limit] = torch.rand(asked.limit, generator=generator, dtype=torch.float64)
    return numbers


def _room(states: torch.Tensor, columns: int) -> torch.Tensor:
    return states.new_empty((*states.shape[:2], columns, states.shape[-1]))


def _grown(states: torch.Tensor, columns: int) -> torch.Tensor:
    grown = _room(states, columns)
    grown[:, :, : states.shape[-2]] = states
    return grown
