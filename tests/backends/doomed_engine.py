"""vLLM's engine process whose every step fails."""

import os
from typing import Any

from selftrain.backends import vllm_engine


def main() -> None:
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm.v1.engine.llm_engine import LLMEngine

    step = LLMEngine.step

    def failing(self: Any) -> Any:
        if any(name != "canary" for name in self.output_processor.request_states) and failing_now():
            raise RuntimeError("the device fell off")
        return step(self)

    LLMEngine.step = failing
    vllm_engine.main()


def failing_now() -> bool:
    """The probe, which is scored by requests of job -1, still works: only sampling fails."""
    return engines[0] is not None and any(place.job >= 0 for place in engines[0].open.values())


engines: list[Any] = [None]


class Watched(vllm_engine.Engine):
    """An engine that the failing step can look into."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        engines[0] = self


vllm_engine.Engine = Watched  # type: ignore[misc]

if __name__ == "__main__":
    main()
