"""Turn a SmolLM2 GGUF file into a plain model folder: `python -m selftrain.backends.gguf FILE OUT ID`."""

import json
import sys
from pathlib import Path


def convert(file: Path, out: Path, name: str) -> None:
    """Write the de-quantised model with its tokenizer, chat template and generation config as `out`."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # The loader drops what the file says with `tokenizer.ggml.pre = smollm`: digits are split off before anything
    # else, so that two spaces before a number are one token.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)]
    )
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.config.rms_norm_eps = float(f"{model.config.rms_norm_eps:.6g}")
    for attribute in ("quantization_config", "unk_token_id"):
        if hasattr(model.config, attribute):
            delattr(model.config, attribute)
    model.config._model_name_or_path = name
    out.mkdir(parents=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    note = f"{name} as rounded in {file.name}, de-quantised to bfloat16"
    (out / "model.json").write_text(json.dumps({"source": name, "file": file.name, "note": note}, indent=2) + "\n")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
