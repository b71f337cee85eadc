"""The README's generated parts, from the tables that the code runs on. ``python -m tests.readme`` writes them."""

from __future__ import annotations

import re
from pathlib import Path

from relay.config import markdown_table
from relay.demo.behaviour import table as demo_table
from relay.providers.registry import PROVIDERS
from relay.responses.request import PARAMETERS
from tests.limits import table as limits_table

README = Path(__file__).parent.parent / "README.md"
_BLOCK = re.compile(r"<!-- generated: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)


def parameters() -> str:
    """A row for each parameter, a column for each dialect."""
    lines = [f"| parameter | {' | '.join(PROVIDERS)} |", "|---" * (len(PROVIDERS) + 1) + "|"]
    for name in sorted(PARAMETERS):
        cells = []
        for provider in PROVIDERS.values():
            row = provider.parameters[name]
            note = row.note.rstrip(".").replace("|", "\\|")
            cells.append(f"{row.verdict}: {note}" if note else row.verdict)
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


BLOCKS = {"configuration": markdown_table, "parameters": parameters, "limits": limits_table, "demo": demo_table}


def written(text: str) -> str:
    """The README with its generated parts made anew."""
    return _BLOCK.sub(lambda match: f"<!-- generated: {match[1]} -->\n{BLOCKS[match[1]]().strip()}\n<!-- end -->", text)


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
