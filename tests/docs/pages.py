"""README and the pages of docs/, taken apart: sections, code blocks, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
"""The text of each page by its path."""


class Block(NamedTuple):
    """A fenced block."""

    page: str
    heading: str
    """The nearest one above."""
    language: str
    code: str


def _lines(page: str) -> Iterator[tuple[str, str | None, str]]:
    """Yield the heading, the language of the fence (None outside of one) and each line."""
    heading, language = "", None
    for line in PAGES[page].splitlines():
        if line.startswith("```"):
            language = line.removeprefix("```") if language is None else None
            continue
        if language is None and re.match("#+ ", line):
            heading = line.lstrip("# ")
        yield heading, language, line


def blocks(language: str) -> list[Block]:
    """Return every block in `language`, of all pages."""
    found = []
    for page in PAGES:
        code: dict[tuple[str, int], list[str]] = {}
        number, before = 0, None
        for heading, current, line in _lines(page):
            number += before is None and current is not None
            before = current
            if current == language:
                code.setdefault((heading, number), []).append(line)
        found += [Block(page, h, language, "\n".join([*text, ""])) for (h, _), text in code.items()]
    return found


def example(page: str, heading: str, number: int = 0, language: str = "python") -> str:
    """Return a block under a heading: the first one, or that with another `number`."""
    found = [block.code for block in blocks(language) if block[:2] == (page, heading)]
    return found[number]


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the tables right under `heading`, without the tables' heads."""
    text = [line for h, language, line in _lines(page) if h == heading and language is None]
    tables = "\n".join(text).split("\n\n")
    lines = [line for table in tables for line in _body(table)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _body(table: str) -> list[str]:
    lines = table.strip().splitlines()
    return lines[2:] if len(lines) > 1 and re.fullmatch(r"[|-]+", lines[1]) else []


def names(cells: list[str]) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", " ".join(cells))


def anchors(page: str) -> set[str]:
    """Return what a link to a heading of the page may name, as GitHub makes it."""
    headings = {heading for heading, _, _ in _lines(page)}
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> list[str]:
    """Return the targets of all links."""
    text = "\n".join(line for _, language, line in _lines(page) if language is None)
    return re.findall(r"\]\(([^)\s]+)\)", text)
