"""Put the tested examples into the documents that show them; with --check, only say what is old.

A document names a file in a comment, `<!-- docs/examples/guess.py -->`, and the code block that
follows is that file without its docstring.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- (?P<file>[\w/.]+) -->\n```python\n.*?```", re.DOTALL)
DOCSTRING = re.compile(r'\A""".*?"""\n+', re.DOTALL)


def included(text: str) -> str:
    """Return a document with its examples as they are now."""

    def block(match: re.Match[str]) -> str:
        code = DOCSTRING.sub("", (ROOT / match["file"]).read_text("utf-8"))
        return f"<!-- {match['file']} -->\n```python\n{code}```"

    return BLOCK.sub(block, text)


def main() -> int:
    """Rewrite the documents, or count the old ones."""
    old = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text("utf-8")
        if included(text) != text:
            old += 1
            print(f"{path.relative_to(ROOT)}: the examples are old")
            if "--check" not in sys.argv:
                path.write_text(included(text), "utf-8")
    return old if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
