"""Looking at runs: a page of one, several beside each other, and one that follows a run."""

import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from selftrain.cli.console import out
from selftrain.errors import UserError

Out = Annotated[Path | None, typer.Option("--out", help="The HTML file to write.")]
Open = Annotated[bool, typer.Option("--open", help="Open it in the browser.")]
Price = Annotated[float | None, typer.Option(min=0, help="What an hour of the machine costs, for the table of costs.")]


def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")],
    file: Out = None,
    opened: Open = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve it on this machine instead, following the run.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve: its port; 0 takes a free one.")] = 0,
    price: Price = None,
) -> None:
    """Write a run's report, one HTML file that needs no network, or serve one that follows the run."""
    from selftrain import report as reports

    if serve:
        if file is not None:
            raise UserError("--serve writes no file; leave --out away, or --serve")
        _serve(folder, port, opened, price)
        return
    with out.status("reading the run"):
        written = reports.write(folder, file, price=price)
    _told(written, opened)


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders of two runs or more.")],
    file: Out = None,
    opened: Open = False,
    price: Price = None,
) -> None:
    """Write one HTML file that sets several runs beside each other."""
    from selftrain import report as reports

    if len(folders) < 2:
        raise UserError(f"a comparison takes two runs or more; `selftrain report {folders[0]}` shows one")
    with out.status("reading the runs"):
        written = reports.compare(folders, file or Path("compare.html"), price=price)
    _told(written, opened)


def _serve(folder: Path, port: int, opened: bool, price: float | None) -> None:
    from selftrain.report.server import serving

    with ExitStack() as stack:
        with out.status("reading the run"):
            server = stack.enter_context(serving(folder, port=port, price=price))
        said = f"the report of {folder} is at {server.url} (Ctrl-C ends it; the run goes on)"
        out.print(said, markup=False, highlight=False, soft_wrap=True)
        if opened:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            out.print("ended; the run is as it was")


def _told(written: Path, opened: bool) -> None:
    size = written.stat().st_size / 1e6
    out.print(f"wrote {written} ({size:.1f} MB)", markup=False, highlight=False, soft_wrap=True)
    if opened:
        webbrowser.open(written.resolve().as_uri())
