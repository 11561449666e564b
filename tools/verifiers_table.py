"""Write the table of built-in verifiers into docs/verifiers.md: `python tools/verifiers_table.py`."""

import re
import sys
from pathlib import Path

from selftrain.plugins import available, headline
from selftrain.verification.verify import load_verifier

PAGE = Path(__file__).parent.parent / "docs" / "verifiers.md"
BEGIN, END = "<!-- verifiers: python tools/verifiers_table.py -->\n", "<!-- end -->\n"


def table() -> str:
    """Return the built-in verifiers as a table: name, first line of the file, what it asks for."""
    lines = ["| name | what it says | asks for |", "|---|---|---|"]
    for name, found in available("verifier").items():
        if "/" not in name:
            asks = ", ".join(sorted(load_verifier(name).asks))
            lines.append(f"| `{name}` | {headline(found).replace('|', chr(92) + '|')} | {asks} |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """Return the page with the table in its place."""
    return re.sub(f"(?s){re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: BEGIN + table() + END, page)


def main() -> int:
    """Write the table."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
