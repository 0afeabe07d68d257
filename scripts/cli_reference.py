"""Write docs/cli.md from the commands' own help; with --check, only say whether it is old."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from gymhost.cli import COMMANDS, app, load

FILE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 80
HEAD = """\
# The command line

What `gymhost COMMAND --help` says, of all commands. `scripts/cli_reference.py` writes this page.

A result goes to standard output, and what is for a person beside it to standard error. Tables are
tab-separated where no terminal reads them. There is no colour; `NO_COLOR` turns off bold, too, and
`COLUMNS` is the width of tables and help.

`gymhost --install-completion` sets up completion in bash, zsh and fish: commands, options, and the
names of installed environments. `gymhost --show-completion` prints it instead.
"""


def reference() -> str:
    """Return the page as it should be."""
    root = typer.main.get_command(app)
    commands = [("gymhost", root), *((f"gymhost {name}", load(name)) for name in COMMANDS)]
    pages = [page for name, command in commands for page in helps(name, command)]
    return "\n".join([HEAD, *pages])


def helps(name: str, command: Any) -> Iterator[str]:
    """Yield the section of a command, and of those inside it."""
    # the size is set: that of the terminal would end up in the page
    settings: dict[str, Any] = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    with command.make_context(
        name, [], resilient_parsing=True, help_option_names=["-h", "--help"], **settings
    ) as context:
        text = command.get_help(context)
    title = "Commands" if name == "gymhost" else name
    yield f"## {title}\n\n```text\n{text.rstrip()}\n```\n"
    if name != "gymhost":
        for inner in getattr(command, "commands", {}).values():
            yield from helps(f"{name} {inner.name}", inner)


def main() -> int:
    """Write the page, or return 1 where it is old."""
    page = reference()
    if FILE.exists() and FILE.read_text("utf-8") == page:
        return 0
    print(f"{FILE.name} is old. Try: python scripts/cli_reference.py")
    if "--check" in sys.argv:
        return 1
    FILE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
