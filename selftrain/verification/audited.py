"""What an audit came to, as plain values and as lines that fit a terminal."""

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.cells import cell_len, set_cell_size

from selftrain.records import Json, JsonValue, Verdict
from selftrain.statistics import Estimate
from selftrain.verification.verify_file import Response

WIDTH = 80
SHOWN = 20
"""Disagreements that are printed; a file holds all."""
RATES = ("precision", "recall", "false positives", "false negatives")


class Labelled(NamedTuple):
    """A row of the file with what is true of its response."""

    response: Response
    right: bool

    @property
    def problem(self) -> str:
        """What its problem is known by; without a prompt nothing says that two rows are of one problem."""
        return self.response.problem.id if self.response.problem.text else f"row {self.response.sample.id}"


class Differing(NamedTuple):
    """A row that two verifiers, or a verifier and the label, see differently."""

    row: Labelled
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What one verifier's verdicts are worth."""

    by: str
    rates: Mapping[str, Estimate]
    """Precision, recall, and the rates of false positives and false negatives, over decided rows."""
    auc: Estimate | None
    """None where it gives no scores."""
    undecided: Mapping[str, Estimate]
    """Status -> its share of all rows; of 'scored' only where there are such."""
    first: Mapping[str, str]
    """The first reason given for error and for timeout."""

    def as_json(self) -> Json:
        """It as plain values."""
        return {
            "by": self.by,
            **{name.replace(" ", "_"): _plain(each) for name, each in self.rates.items()},
            "auc": self.auc and _plain(self.auc),
            "undecided": {name: _plain(each) for name, each in self.undecided.items()},
            "first": dict(self.first),
        }

    def lines(self) -> list[str]:
        """It as lines to read."""
        of = dict(zip(RATES, ("passed", "decided and right", "decided and wrong", "decided and right"), strict=True))
        lines = [_line(name, each, f"of {each.n} {of[name]}") for name, each in self.rates.items()]
        if self.auc is not None:
            lines.append(_line("AUC", self.auc, f"of {self.auc.n} with a score", percent=False))
        lines += [_line(name, each, f"of {each.n} rows") for name, each in self.undecided.items()]
        return [f"{self.by}:", *lines, *(f"  first {status}: {why}" for status, why in self.first.items())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit came to."""

    source: str
    right: int
    wrong: int
    problems: int
    verifiers: tuple[Audited, ...]
    agreement: Estimate | None
    """Of the two verifiers, over rows that both decided."""
    kappa: Estimate | None
    differing: tuple[Differing, ...]

    def as_json(self) -> Json:
        """It as plain values; the disagreements in full."""
        return {
            "source": self.source,
            "rows": self.right + self.wrong,
            "right": self.right,
            "problems": self.problems,
            "verifiers": [each.as_json() for each in self.verifiers],
            "agreement": self.agreement and _plain(self.agreement),
            "kappa": self.kappa and _plain(self.kappa),
            "differing": [told(each) for each in self.differing],
        }

    def lines(self) -> list[str]:
        """It as lines to read, no wider than a terminal."""
        lines = [
            f"{self.source}: {self.right + self.wrong} responses to {self.problems} problems,"
            f" {self.right} labelled right, {self.wrong} wrong",
            "95 % intervals in brackets, by bootstrap over problems",
        ]
        for each in self.verifiers:
            lines += ["", *each.lines()]
        if self.agreement is not None and self.kappa is not None:
            lines += ["", "A against B:", _line("agreement", self.agreement, f"of {self.agreement.n} both decided")]
            lines.append(_line("Cohen's kappa", self.kappa, "", percent=False))
        return [*lines, "", *self._table()]

    def _table(self) -> Iterator[str]:
        two = len(self.verifiers) == 2
        what = "that A and B see differently" if two else "that it and the label see differently"
        if not self.differing:
            yield f"there is no row {what}"
            return
        yield f"{len(self.differing)} rows {what}" + (
            f" (A {self.verifiers[0].by}, B {self.verifiers[1].by}):" if two else ":"
        )
        names = ("A", "B") if two else ("verdict",)
        yield _cells("id", "label", names, "response, its end")
        for row, verdicts in self.differing[:SHOWN]:
            label = "right" if row.right else "wrong"
            yield _cells(row.response.sample.id, label, [v.status for v in verdicts], row.response.sample.text)
        if len(self.differing) > SHOWN:
            yield f"and {len(self.differing) - SHOWN} more (--out FILE.jsonl has all, in full)"


def told(differing: Differing) -> dict[str, JsonValue]:
    """Return a disagreement as plain values, with all there is to see."""
    response, right = differing.row
    return {
        "id": response.sample.id,
        "label": right,
        "prompt": response.problem.text,
        "answer": response.problem.answer,
        "response": response.sample.text,
        "verdicts": [
            {"by": v.by, "status": v.status, "score": v.score, "answer": v.answer, "why": v.why}
            for v in differing.verdicts
        ],
    }


def _line(name: str, found: Estimate, of: str, *, percent: bool = True) -> str:
    def shown(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.3f}"

    if math.isnan(found.value):
        return f"  {name:<16} {'-':>6}   nothing to tell it by" + (f" ({of})" if of else "")
    interval = "no interval" if math.isnan(found.low) else f"({shown(found.low)} to {shown(found.high)})"
    return f"  {name:<16} {shown(found.value):>6}{' %' if percent else '  '} {interval:<18} {of}".rstrip()


def _cells(id: str, label: str, statuses: Sequence[str], response: str) -> str:
    """Return a line of the table; of a response, its end, where answers stand."""
    left = f"{set_cell_size(_one_line(id), 14)} {label:<6} " + " ".join(f"{status:<8}" for status in statuses) + " "
    text = _one_line(response)
    room = WIDTH - cell_len(left)
    if cell_len(text) > room:
        while cell_len(text) > room - 3:
            text = text[max(1, len(text) - room) :] if len(text) > 2 * room else text[1:]
        text = f"...{text}"
    return (left + text).rstrip()


def _one_line(text: str) -> str:
    """Return a text as a terminal can show it: in one line, without control characters and lone surrogates."""
    return "".join("?" if unicodedata.category(char) in ("Cc", "Cs", "Cf") else char for char in " ".join(text.split()))


def _plain(found: Estimate) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in found._asdict().items()}
