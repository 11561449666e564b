"""The breaker: when verdicts that could not be given stop a stage."""

import threading
from typing import Any

import pytest

from selftrain.errors import Blocked
from selftrain.records import Verdict
from selftrain.verification.breaker import AFTER, Breaker


def verdicts(count: int, status: Any, why: str = "") -> list[Verdict]:
    return [Verdict(sample=f"s{i}", by="mine", status=status, why=why) for i in range(count)]


@pytest.mark.parametrize("status", ["error", "timeout"])
def test_too_many_stop_the_stage_and_the_first_cause_is_named(status: str) -> None:
    breaker = Breaker()
    breaker.add("verify", [*verdicts(1, status, "no such file"), *verdicts(10, status, "later")])
    with pytest.raises(Blocked, match=r"'verify': 11 of 200 .* \(6%, allowed 5%\).*mine on sample s0: no such file"):
        breaker.add("verify", verdicts(189, "pass"))


@pytest.mark.parametrize("status", ["pass", "fail", "scored", "abstain"])
def test_other_verdicts_never_do(status: str) -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.add("verify", verdicts(100, status))


def test_up_to_the_share_a_stage_goes_on() -> None:
    breaker = Breaker()
    breaker.add("verify", [*verdicts(10, "error"), *verdicts(190, "pass")])
    with pytest.raises(Blocked):
        breaker.add("verify", verdicts(1, "error"))


def test_too_few_verdicts_say_nothing() -> None:
    Breaker().add("verify", verdicts(AFTER - 1, "error"))


def test_stages_are_counted_apart() -> None:
    breaker = Breaker()
    breaker.add("one", verdicts(150, "error"))
    breaker.add("two", verdicts(150, "error"))


def test_threads_count_together() -> None:
    breaker = Breaker()
    blocked = []

    def add() -> None:
        for _ in range(10):
            try:
                breaker.add("verify", verdicts(5, "error"))
            except Blocked as error:
                blocked.append(error)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    # 80 additions of 5 make 400; from the 40th on each one is too many.
    assert len(blocked) == 41
