"""What can go wrong, as exceptions a user can act on.

SelftrainError
├── UserError (ValueError)        the input is wrong; exit code 2
│   ├── ConfigError               a setting or a run file
│   ├── PluginError               a recipe, verifier or data set that isn't there or doesn't load
│   ├── RecipeError               stages that don't fit together
│   ├── DataError                 a data file or a row in it
│   ├── ModelError                a model that isn't there or can't be used
│   └── StoreError                a run folder that is another run's, locked, or made with other settings
├── Blocked                       the run refuses to go on (contamination, error rate, no accepted round); exit code 3
└── EngineError (RuntimeError)    a sampler, trainer or worker failed; exit code 1

Every message says what was met, where, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SelftrainError(Exception):
    """The root of all errors that selftrain raises on purpose."""


class UserError(SelftrainError, ValueError):
    """The user's input is wrong; one line says what to change."""


class ConfigError(UserError):
    """A setting or a run file is wrong."""


class PluginError(UserError):
    """A recipe, verifier or data set is not there or does not load."""


class RecipeError(UserError):
    """The stages of a recipe do not fit together."""


class DataError(UserError):
    """A data file is missing or a row in it is wrong."""


class ModelError(UserError):
    """A model is not there or cannot be used."""


class StoreError(UserError):
    """A run folder cannot be used: another run's, locked, read-only, or made with other settings."""


class Blocked(SelftrainError):
    """The run refuses to go on, and says why."""


class EngineError(SelftrainError, RuntimeError):
    """A sampler, a trainer or a worker process failed."""


def near(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean a, b?' for the known names nearest to `name`, or '' if none is near."""
    found = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {', '.join(found)}?" if found else ""
