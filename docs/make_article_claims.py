"""Copy the pages of `make article-claims` to the documentation, and write the table of verdicts on their first page.

Needs a finished `make article-claims` for each of the problems; `make docs-claims` calls it. Nothing is written by
hand.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "case-studies" / "article-claims"
PAGE = FOLDER / "index.md"
PROBLEMS = ("cells", "wbc", "isbi2012")
FILES = ("README.md", "speeds.md", "*.png")
BEGIN, END = "<!-- verdicts -->\n", "<!-- end -->\n"


def copy_page(problem: str) -> pd.Series:
    """Copy a problem's page and return its verdicts by claim."""
    source = ROOT / "data" / "08_reporting" / problem / "article_claims"
    target = FOLDER / problem
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in (path for pattern in FILES for path in source.glob(pattern)):
        shutil.copy(path, target)
    claims = pd.read_csv(source / "claims.csv")
    return claims.set_index("claim")["verdict"]


def main() -> None:
    """Copy all pages and write the table."""
    verdicts = {f"[{problem}]({problem}/README.md)": copy_page(problem) for problem in PROBLEMS}
    lines = [("claim", *verdicts), ("---",) * (len(verdicts) + 1)]
    lines += list(pd.DataFrame(verdicts).itertuples(name=None))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
