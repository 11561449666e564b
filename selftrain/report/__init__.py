"""A run as one self-contained HTML page, several runs beside each other, and a page that follows a run."""

from collections.abc import Sequence
from pathlib import Path

from selftrain.errors import UserError
from selftrain.places import check_writable

NAME = "report.html"


def write(root: Path, out: Path | None = None, *, price: float | None = None) -> Path:
    """Write a run's report to a file, by default report.html in its folder; return where.

    `price` is what an hour of the machine costs. Raises StoreError if the folder holds no run.
    """
    from selftrain.report.content import content
    from selftrain.report.subset import subset
    from selftrain.report.view import View
    from selftrain.store import Store

    Store.open(root)
    out = _place(out or root / NAME)
    view = View.open(root)
    try:
        found, held = content(view, price=price), subset(view)
        name = view.name
    finally:
        view.close()
    from selftrain.report.page import page

    text = page(title=f"{name}: selftrain report", head=found.head, sections=found.sections, data=held.as_json())
    return _written(text, out)


def compare(roots: Sequence[Path], out: Path, *, price: float | None = None) -> Path:
    """Write a page that sets several runs beside each other; raises StoreError if a folder holds no run."""
    from selftrain.report.comparison import comparison
    from selftrain.report.page import page
    from selftrain.store import Store

    for root in roots:
        Store.open(root)
    out = _place(out)
    found, held = comparison(roots, price=price)
    return _written(page(title="selftrain comparison", head=found.head, sections=found.sections, data=held), out)


def _place(out: Path) -> Path:
    """Return where a page is to be written, or say that it can't be: known before minutes of reading."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name an HTML file in it")
    check_writable(out.absolute().parent, f"--out {out} can't be written", "choose another place with --out")
    return out


def _written(text: str, out: Path) -> Path:
    from selftrain.store import write_text

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text)
    except OSError as error:
        raise UserError(f"--out {out} can't be written: {error.strerror}; choose another place") from error
    return out
