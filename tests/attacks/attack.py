"""What an attack is."""

from typing import NamedTuple


class Attack(NamedTuple):
    """A program that tries something it must not be able to do, and prints ESCAPED if it could."""

    name: str
    tries: str
    program: str
