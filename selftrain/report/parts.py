"""What a report is made of: sections, and in them texts, tables and figures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = str | int | float | None
NUMBER = re.compile(
    r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?( ?(%|s|min|h))?( \([^)]*\))?( to [+-]?\d[\d.,e+-]*)?|at (least|most) [\d.e+-]+"
)
"""What stands right in a table: 1,200; 6.7 % (2.7 to 10.7); 2 min; 0.1 to 0.2; not a checkpoint's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a head; numbers stand right, texts left."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    folded: bool = False
    """Behind its caption, which opens it."""

    @property
    def kind(self) -> str:
        """What the template makes of it."""
        return "table"

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers alone, or what reads as one: 6.7 %, 1,200, 0.12 (0.10 to 0.14)."""
        cells = [row[column] for row in self.rows if row[column] not in (None, "")]
        return bool(cells) and all(not isinstance(cell, str) or NUMBER.fullmatch(cell) for cell in cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its title, how to read it, and its numbers as a table for those who cannot see it."""

    id: str
    title: str
    says: str
    spec: Mapping[str, Any]
    """A Vega-Lite specification without colours and width: the page's theme gives them."""
    table: Table | None = None

    @property
    def kind(self) -> str:
        """What the template makes of it."""
        return "figure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Figures side by side where there is room; behind a title that opens them, if it has one."""

    figures: Sequence[Figure]
    folded: str = ""

    @property
    def kind(self) -> str:
        """What the template makes of it."""
        return "grid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph; `tone` is good, bad or '' and gets a sign beside its colour."""

    text: str
    tone: str = ""

    @property
    def kind(self) -> str:
        """What the template makes of it."""
        return "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text as it stands, behind a title that opens it."""

    title: str
    text: str
    open: bool = False

    @property
    def kind(self) -> str:
        """What the template makes of it."""
        return "code"


Part = Table | Figure | Grid | Text | Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with what stands under it."""

    id: str
    title: str
    parts: Sequence[Part] = field(default_factory=tuple)

    def figures(self) -> list[Figure]:
        """Its figures, those of grids too."""
        found: list[Figure] = []
        for part in self.parts:
            found += part.figures if isinstance(part, Grid) else [part] if isinstance(part, Figure) else []
        return found


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as people read it."""
    return "" if value is None or value != value else f"{100 * value:.{digits}f} %"


def interval(low: float | None, high: float | None, *, scale: float = 100, digits: int = 1) -> str:
    """Return an interval as people read it, '' where there is none."""
    if low is None or high is None or low != low or high != high:
        return ""
    return f"{scale * low:.{digits}f} to {scale * high:.{digits}f}"


def count(value: float | None) -> str:
    """Return a number of things, in groups of three digits."""
    return "" if value is None else f"{value:,.0f}"
