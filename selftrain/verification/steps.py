"""Cut a response into its steps: for process models, and for the rows that they are trained on."""

import re

from selftrain.errors import PluginError

SEPARATORS = {"lines": r"\n\s*", "paragraphs": r"\n[^\S\n]*\n\s*"}
"""Name -> the regular expression that stands between two steps."""
ENDS = {"lines": "\n", "paragraphs": "\n\n"}
"""Name -> what ends every step, the last one too: a process model is read where a step is known to be over."""


def pattern(by: str) -> re.Pattern[str]:
    """Return what separates steps: `lines`, `paragraphs` (blank lines), or a regular expression of one's own."""
    try:
        found = re.compile(SEPARATORS.get(by, by))
    except re.error as error:
        raise PluginError(
            f"steps is {by!r}: neither lines nor paragraphs, nor a regular expression ({error})"
        ) from error
    if found.match(""):
        raise PluginError(f"steps is {by!r}: a regular expression that matches nothing at all separates nothing")
    return found


def split(response: str, by: str = "lines") -> tuple[str, ...]:
    """Return the steps of a response, none of them empty.

    Lines and paragraphs end with exactly one newline or blank line each, the last one too. With an expression of one's
    own each step keeps the separator that ends it, as it is written.
    """
    separator, steps, at = pattern(by), [], 0
    for match in separator.finditer(response):
        steps.append((response[at : match.start()], match[0]))
        at = match.end()
    steps.append((response[at:], ""))
    return tuple(text.rstrip() + ENDS[by] if by in ENDS else text + own for text, own in steps if text.strip())
