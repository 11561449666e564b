"""Where commands print, and the options that several of them take."""

from typing import Annotated

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)

Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as key=value.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
