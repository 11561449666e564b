"""Every program of the attack corpus is let loose: none gets out, none passes, and the sandbox is well after each."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from selftrain.backends.sandbox_descent import descent
from tests.attacks.run import THEMES, attacks

ROOT = Path(__file__).parent.parent.parent
ORDINARY = 12_345
"""A user of no privileges."""
QUICK = (
    "loopback read-secret write-outside proc-mem signals kill-all symlinks tmp-of-others fork-bomb memory-bomb "
    "inode-bomb deep-folders output-flood daemon zombies"
)
"""Attacks that the fast tier tries: some of each kind."""


def let_loose(which: str, become: Callable[[], None] | None = None, **settings: str) -> list[dict[str, object]]:
    """Run attacks in a process of its own, by theme or name; what came of each."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.attacks.run", *which.split()],
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=become,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def harmless(outcomes: list[dict[str, object]]) -> None:
    assert [each for each in outcomes if each["escaped"]] == []
    assert [each for each in outcomes if each["passed"]] == []
    assert [each for each in outcomes if each["health"]] == []


def test_the_corpus_is_large_and_says_what_each_attack_tries() -> None:
    corpus = list(attacks())
    assert len(corpus) >= 100
    assert len({attack.name for attack in corpus}) == len(corpus)
    assert all(attack.tries for attack in corpus)


@pytest.mark.slow
def test_some_of_each_kind_of_attack_do_no_harm() -> None:
    outcomes = let_loose(QUICK)
    assert len(outcomes) == len(QUICK.split())
    harmless(outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
def test_no_attack_does_harm(theme: str) -> None:
    outcomes = let_loose(theme)
    assert len(outcomes) == len(list(attacks(theme)))
    harmless(outcomes)


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="the tests run as an ordinary user already")
@pytest.mark.parametrize("theme", THEMES)
def test_no_attack_does_harm_as_an_ordinary_user(theme: str) -> None:
    paths = [sys.base_prefix, sys.prefix, sysconfig.get_paths()["purelib"], str(ROOT)]
    outcomes = let_loose(theme, descent(paths, ORDINARY))
    assert len(outcomes) == len(list(attacks(theme)))
    harmless(outcomes)


def test_without_the_sandbox_the_same_attacks_get_out() -> None:
    # Or the corpus would prove nothing.
    outcomes = let_loose("loopback abstract-socket read-secret see-others environment", SELFTRAIN_UNSAFE_NO_SANDBOX="1")
    assert [each["name"] for each in outcomes if not each["escaped"]] == []
