"""vLLM's engine process, but with a prefix cache that a swap leaves as it was while the file $STALE is there."""

import os
from pathlib import Path
from typing import Any

from selftrain.backends import vllm_engine


def main() -> None:
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm.v1.engine.llm_engine import LLMEngine

    reset = LLMEngine.reset_prefix_cache

    def sometimes(self: Any, *args: Any, **kwargs: Any) -> bool:
        return Path(os.environ["STALE"]).exists() or bool(reset(self, *args, **kwargs))

    LLMEngine.reset_prefix_cache = sometimes
    vllm_engine.main()


if __name__ == "__main__":
    main()
