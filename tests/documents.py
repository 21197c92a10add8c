"""README.md, the pages beside it and docs/, as tests read them: links, anchors, code blocks and tables."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[1]


@attrs.frozen
class Block:
    """A code block.

    :param language: the word after the opening fence.
    :param text: the lines between the fences.
    :param output: whether it is the output of the block before it, since only empty lines lie between them.
    """

    language: str
    text: str
    output: bool


@attrs.frozen
class Page:
    """A Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        """The path of the file from the root of the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        """All of the file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The text without its code blocks."""
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    def blocks(self, language: str | None = None) -> list[Block]:
        """Return the code blocks, of one language or of all."""
        found, end = [], -1
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE):
            output = end >= 0 and not self.text[end : match.start()].strip()
            end = match.end()
            found.append(Block(match[1], match[2], output))
        return [block for block in found if language in (None, block.language)]

    def links(self) -> list[str]:
        """Return the targets of links and images."""
        return re.findall(r"\]\(([^)\s]+)\)", self.prose)

    def anchors(self) -> set[str]:
        """Return the anchors of the headings, as GitHub names them."""
        seen: Counter[str] = Counter()
        anchors = set()
        for heading in re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE):
            slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return anchors

    def tables(self, heading: str) -> list[list[list[str]]]:
        """Return the tables below a heading: the cells of their rows, without the row of titles."""
        [below] = re.findall(
            rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", self.prose, re.DOTALL | re.MULTILINE
        )
        return [
            [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in table.splitlines()[2:]]
            for table in re.findall(r"(?:^\|.*\|$\n?)+", below, re.MULTILINE)
        ]

    def table(self, heading: str) -> list[list[str]]:
        """Return the one table below a heading."""
        [table] = self.tables(heading)
        return table

    def code(self) -> list[str]:
        """Return the code in the prose: what stands between backticks."""
        return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", self.prose)


README = Page(ROOT / "README.md")
PAGES = [Page(path) for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])]


def page(name: str) -> Page:
    """Return a page by its path from the root of the repository."""
    return Page(ROOT / name)
