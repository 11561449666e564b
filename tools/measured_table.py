"""Write what the leaderboard measured into the table of pipelines/README.md: `python tools/measured_table.py`."""

import csv
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "pipelines" / "README.md"
MEASURED = ROOT / "benchmarks" / "results" / "leaderboard-nano.csv"
FOUND = re.compile(r"(?:; )?leaderboard: .*")


def measured() -> dict[str, str]:
    """Return what the leaderboard says of each recipe."""
    if not MEASURED.exists():
        return {}
    with MEASURED.open(newline="", encoding="utf-8") as file:
        return {
            row["recipe"]: f"leaderboard: {row['gain']} over base, {row['over']} over its control, {row['verdict']}"
            for row in csv.DictReader(file)
        }


def written(page: str) -> str:
    """Return the page with the figures in the last column of the recipes' lines."""
    found = measured()

    def line(text: str) -> str:
        name = re.match(r"\| `(\w+)` \|", text)
        figure = found.get(name[1]) if name else None
        if figure is None:
            return text
        rest, _, cell = text.removesuffix(" |").rpartition(" | ")
        before = "" if cell == "not measured" else FOUND.sub("", cell)
        return f"{rest} | {before}{'; ' if before else ''}{figure} |"

    table, heading, rest = page.partition("\n## ")
    return "\n".join(map(line, table.split("\n"))) + heading + rest


def main() -> int:
    """Write the figures."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
