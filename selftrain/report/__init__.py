"""A run as one self-contained HTML page, several runs beside each other, and a page that follows a run."""

from collections.abc import Sequence
from pathlib import Path

NAME = "report.html"


def write(root: Path, out: Path | None = None, *, price: float | None = None) -> Path:
    """Write a run's report to a file, by default report.html in its folder; return where.

    `price` is what an hour of the machine costs. Raises StoreError if the folder holds no run.
    """
    from selftrain.report.content import content
    from selftrain.report.subset import subset
    from selftrain.report.view import View

    view = View.open(root)
    try:
        found, held = content(view, price=price), subset(view)
        name = view.name
    finally:
        view.close()
    from selftrain.report.page import page

    text = page(title=f"{name}: selftrain report", head=found.head, sections=found.sections, data=held.as_json())
    return _written(text, out or root / NAME)


def compare(roots: Sequence[Path], out: Path, *, price: float | None = None) -> Path:
    """Write a page that sets several runs beside each other; raises StoreError if a folder holds no run."""
    from selftrain.report.comparison import comparison
    from selftrain.report.page import page

    found, held = comparison(roots, price=price)
    return _written(page(title="selftrain comparison", head=found.head, sections=found.sections, data=held), out)


def _written(text: str, out: Path) -> Path:
    from selftrain.store import write_text

    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    return out
