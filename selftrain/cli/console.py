"""Where commands print, and the options that several of them take."""

import unicodedata
from typing import Annotated, Any

import typer
from rich.console import Console

JOINERS = "\u200c\u200d"
"""Characters without a shape of their own that words of several scripts are written with."""


def visible(text: str) -> str:
    """Return a text with its control and direction characters written out, so that a terminal does not obey them."""
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Cf", "Cs") and char not in f"\n\t{JOINERS}"
        else char
        for char in text
    )


class Terminal(Console):
    """A console to which what models and data files say can do nothing."""

    def print(self, *objects: Any, **how: Any) -> None:
        """Print, with texts made visible."""
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), **how)


out = Terminal()
err = Terminal(stderr=True)

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
