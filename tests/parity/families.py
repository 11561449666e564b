"""Small random models of three families, each with a tokenizer and a chat template of its family's kind."""

import json
from pathlib import Path
from typing import Any

from selftrain.backends import models

FAMILIES = ("llama", "qwen", "gemma")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SHAPE: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.1,
}  # fmt: skip


def make(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a model folder."""
    import torch
    import transformers

    tokenizer = _tokenizer(family)
    end = tokenizer.eos_token_id
    shape = {**SHAPE, "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": end}
    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {"tie_word_embeddings": True}),
        "qwen": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, {"tie_word_embeddings": False}),
        "gemma": (transformers.GemmaConfig, transformers.GemmaForCausalLM, {"head_dim": 32}),
    }
    config, model, more = kinds[family]
    torch.manual_seed(seed)
    model(config(**shape, pad_token_id=end, **more)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(family: str) -> Any:
    """Llama: nano's own. Qwen: bytes, with merges learned from bundled text. Gemma: words with a mark before them."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as kinds
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if family == "llama":
        return AutoTokenizer.from_pretrained(models.bundled()["nano"])
    if family == "qwen":
        specials, end, start, template = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>", None, CHATML
        backend = Tokenizer(kinds.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        specials, end, start, template = (
            ["<pad>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<unk>"], "<end_of_turn>", "<bos>", TURNS,
        )  # fmt: skip
        backend = Tokenizer(kinds.BPE(unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        backend.decoder = decoders.Metaspace(prepend_scheme="never")
        alphabet = sorted({char for text in texts() for char in text})
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=specials, initial_alphabet=alphabet)
    backend.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=start,
        eos_token=end,
        pad_token=specials[0],
        chat_template=template,
        model_max_length=256,
    )


def texts() -> list[str]:
    """Bundled problems, as text to learn merges from."""
    path = Path(__file__).parents[2] / "data" / "gsm8k.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [str(value) for row in rows for value in row.values()]
