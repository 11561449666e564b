"""selftrain: language models that get better on their own output, round by round.

`import selftrain` imports nothing heavy: no torch, no vllm, no trl. What users need stands here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftrain.records import Case, Problem, Sample, Score, Verdict

if TYPE_CHECKING:
    from selftrain.loop.launch import Run, run

__version__ = "0.1.0"
__all__ = ["Case", "Problem", "Run", "Sample", "Score", "Verdict", "run"]

# In a wheel the plug-in folders lie in this package; in a clone or an editable install they lie beside it: with the
# checkout's root on the package's path, `selftrain.verifiers.number` is the module's one name there too.
if not Path(__file__).with_name("verifiers").is_dir():
    __path__.append(str(Path(__file__).parent.parent))


def __getattr__(name: str) -> Any:
    if name in ("Run", "run"):
        from selftrain.loop import launch

        return getattr(launch, name)
    raise AttributeError(f"module 'selftrain' has no attribute {name!r}")
