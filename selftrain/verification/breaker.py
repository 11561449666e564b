"""The breaker: a verifier that mostly fails to judge stops the run instead of emptying it."""

import threading
from collections import Counter
from collections.abc import Sequence

from selftrain.errors import Blocked
from selftrain.records import Verdict

SHARE = 0.05
"""Of verdicts that are errors or timeouts, above which a stage stops; abstentions do not count."""
AFTER = 200
"""Verdicts before the share is looked at."""


class Breaker:
    """Counts the verdicts of stages, from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._total: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, stage: str, verdicts: Sequence[Verdict]) -> None:
        """Count a shard's verdicts; raises Blocked, with the first cause, when too many could not be given."""
        broken = [v for v in verdicts if v.status in ("error", "timeout")]
        with self._guard:
            self._total[stage] += len(verdicts)
            self._broken[stage] += len(broken)
            if broken:
                self._first.setdefault(stage, f"{broken[0].by} on sample {broken[0].sample}: {broken[0].why}")
            total, count = self._total[stage], self._broken[stage]
        if total >= AFTER and count > SHARE * total:
            raise Blocked(
                f"stage {stage!r}: {count} of {total} verdicts are errors or timeouts ({count / total:.0%}, allowed"
                f" {SHARE:.0%}). The first: {self._first[stage]}. Mend the verifier, delete this stage's folder, and"
                " run the same command again"
            )
