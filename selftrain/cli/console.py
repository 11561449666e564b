"""Where commands print, and the options that several of them take."""

from typing import Annotated

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)

Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as key=value.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Said:
    """Prints what preparing a run has to say."""

    def say(self, text: str) -> None:
        """One line."""
        err.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, stage: str, total: int, done: int) -> None:
        """Nothing runs yet."""

    def advance(self, stage: str, units: int) -> None:
        """Nothing runs yet."""

    def end(self, stage: str, text: str) -> None:
        """Nothing runs yet."""
