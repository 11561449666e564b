"""A random tiny Llama with a byte tokenizer, and rows for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from selftrain import tables
from selftrain.records import Row, Segment

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

NEWLINE = 202
"""The id of a newline."""


def make(folder: Path, *, seed: int = 0, hidden: int = 128, layers: int = 2, tied: bool = True) -> Path:
    """Write the model folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*specials, *alphabet])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|end|>",
        pad_token="<|end|>",
        additional_special_tokens=specials,
        chat_template=TEMPLATE,
        model_max_length=256,
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def classifier(folder: Path, source: Path, *, tokens: bool = False, labels: int = 1, seed: int = 0) -> Path:
    """Write the model of a folder again with a random head that scores sequences, or with `tokens` every token."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

    torch.manual_seed(seed)
    auto = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    auto.from_pretrained(source, num_labels=labels, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def row(name: str, prompt: Sequence[int], completion: Sequence[int], weight: float = 1.0) -> Row:
    """A row whose completion is trained."""
    segments = (Segment(ids=tuple(prompt), train=False), Segment(ids=tuple(completion), train=True))
    return Row(id=name, kind="example", segments=segments, weight=weight)


def sums(count: int, *, weight: float = 1.0) -> list[Row]:
    """Rows of written sums as bytes of the tiny tokenizer, of several lengths."""
    found = []
    for n in range(count):
        question, reply = f"{n} + {n * 7 % 31} = ", f"{n + n * 7 % 31}" + "!" * (n % 5)
        ids = [[4 + byte - 33 for byte in text.replace(" ", "_").encode()] for text in (question, reply)]
        found.append(row(f"row{n}", [2, *ids[0], 3], [*ids[1], 0], weight))
    return found


def said(text: str) -> list[int]:
    """The ids of plain ASCII text without spaces."""
    return [4 + byte - 33 for byte in text.encode()]


def pairs(count: int, *, weight: float = 1.0) -> list[Row]:
    """Pairs of rows of several lengths: the chosen response ends with right, the rejected one with wrong."""
    found = []
    for n in range(count):
        prompt = [2, *said(f"{n}+{n * 7 % 31}="), 0, 3]
        words = ("right", "wrong" + "!" * (n % 3))
        chosen, rejected = (row(word + str(n), prompt, [*said("x" * (n % 4) + word), 0], weight) for word in words)
        found.append(replace(chosen, kind="chosen", group=f"pair{n}"))
        found.append(replace(rejected, kind="rejected", group=f"pair{n}"))
    return found


def steps(count: int, *, weight: float = 1.0) -> list[Row]:
    """Rows of labelled steps, lines: one that says right is, one that says wrong is not; `maybe` has no label."""
    words = (("right", 1.0), ("wrong", 0.0), ("maybe", None))
    found = []
    for n in range(count):
        chosen = [*(words[(n + at * at) % 3] for at in range(2 + n % 3)), words[n % 2]]
        parts = [Segment(ids=(*said(word), NEWLINE), train=label is not None) for word, label in chosen]
        labels = tuple(label for _, label in chosen if label is not None)
        prompt = Segment(ids=(2, *said(f"{n}?"), 0, 3), train=False)
        found.append(Row(id=f"steps{n}", kind="example", segments=(prompt, *parts), labels=labels, weight=weight))
    return found


def write(rows: Sequence[Row], path: Path) -> Path:
    """Write rows as a stage would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tables.write(Row, rows, path)
    return path
