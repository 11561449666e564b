"""The breaker: a verifier that mostly fails to judge, or a model that mostly can't be sampled, stops the run."""

import threading
from collections import Counter
from collections.abc import Sequence

from selftrain.errors import Blocked
from selftrain.records import Quarantined, Verdict

SHARE = 0.05
"""Of verdicts that are errors or timeouts, above which a stage stops; abstentions do not count."""
AFTER = 200
"""Verdicts before the share is looked at."""
SAMPLES = 100
"""Samples before the share of the quarantined among them is looked at."""


class Breaker:
    """Counts the verdicts and samples of stages, from several threads."""

    def __init__(self, quarantine: float = 1.0) -> None:
        """Allow such a share of samples to be quarantined."""
        self._quarantine = quarantine
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

    def sampled(self, stage: str, samples: int, quarantined: Sequence[Quarantined]) -> None:
        """Count a shard's samples; raises Blocked, with the first cause, when too many could not be had."""
        with self._guard:
            self._total[stage] += samples + len(quarantined)
            self._broken[stage] += len(quarantined)
            if quarantined:
                self._first.setdefault(stage, quarantined[0].why)
            total, count = self._total[stage], self._broken[stage]
        if total >= SAMPLES and count > self._quarantine * total:
            raise Blocked(
                f"stage {stage!r}: {count} of {total} samples are quarantined ({count / total:.0%}, allowed"
                f" {self._quarantine:.0%}). The first: {self._first[stage]}. Mend that or say quarantine=1, delete this"
                " stage's folder, and run the same command again"
            )
