"""What judges are asked: templates in files, and who is compared with whom.

A template is a text file. A line `[system]`, `[user]` or `[assistant]` begins a turn; without one it is a single user
turn. What stands for what: {prompt}, {response}, {answer} (the gold answer: shown only where a template asks for it),
{low} and {high} (the scale's ends), {first} and {second} (two responses to compare). {{x}} is a plain {x}.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from selftrain import paths
from selftrain.errors import PluginError, near
from selftrain.records import Message

KNOWN = ("prompt", "response", "answer", "low", "high", "first", "second")
_PLACE = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
_TURN = re.compile(r"^\[(system|user|assistant)\][^\S\n]*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Template:
    """A judge's prompt with places to fill."""

    turns: tuple[tuple[str, str], ...]
    """Role and text of each turn."""
    places: frozenset[str]

    def filled(self, values: Mapping[str, str]) -> list[Message]:
        """Return the turns with the values in their places; nothing in a value is a place."""
        return [{"role": role, "content": _PLACE.sub(lambda at: _value(at, values), text)} for role, text in self.turns]


def template_file(name: str, folder: Path) -> Path:
    """Return a template's file: of the folder by name, or by a path that ends in .txt."""
    return paths.typed(name) if name.endswith(".txt") else folder / f"{name}.txt"


@lru_cache(maxsize=64)
def template(name: str, folder: Path, needs: tuple[str, ...]) -> Template:
    """Return a template by name or path; it must have the places it `needs`."""
    path = template_file(name, folder)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = sorted(each.stem for each in folder.glob("*.txt"))
        raise PluginError(
            f"the judge's template {name!r} cannot be read ({error}){near(name, known)} (there are {', '.join(known)};"
            " a path ends in .txt)"
        ) from error
    head, *rest = _TURN.split(text)
    turns = [(role, said.strip()) for role, said in zip(rest[::2], rest[1::2], strict=True)]
    if head.strip():
        turns.insert(0, ("user", head.strip()))
    places = frozenset(at[2] for _, said in turns for at in _PLACE.finditer(said) if at[2])
    for place in places.difference(KNOWN):
        offer = f"it can have {', '.join(KNOWN)}; a plain {{{place}}} is written {{{{{place}}}}}"
        raise PluginError(f"the judge's template {name!r} has a place {{{place}}}{near(place, KNOWN)} ({offer})")
    if missing := [each for each in needs if each not in places]:
        raise PluginError(f"the judge's template {name!r} lacks {', '.join(f'{{{each}}}' for each in missing)}")
    return Template(tuple(turns), places)


def pairs(count: int, opponents: int | None) -> list[tuple[int, int]]:
    """Return who is compared with whom, each pair once: all, or each with so many that come after it in a circle."""
    reach = min(count - 1, opponents if opponents is not None else count)
    found = {tuple(sorted((at, (at + step) % count))) for at in range(count) for step in range(1, reach + 1)}
    return sorted((low, high) for low, high in found)


def agreed(one: float | None, other: float | None) -> float | None:
    """Return what two orders of the same comparison come to: a tie if they differ, None if one could not be read."""
    if one is None or other is None:
        return None
    return one if one == other else 0.5


def majority(votes: Sequence[float | None]) -> float | None:
    """Return 1, 0, or 0.5 where the votes that could be read are even; None if none could."""
    read = [vote for vote in votes if vote is not None]
    if not read:
        return None
    mean = sum(read) / len(read)
    return 0.5 if mean == 0.5 else float(mean > 0.5)


def _value(at: re.Match[str], values: Mapping[str, str]) -> str:
    return f"{{{at[1]}}}" if at[1] else values[at[2]]
