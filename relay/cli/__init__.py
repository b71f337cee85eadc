"""The command line: the one place where settings, application, server and demo are put together.

    arguments   what can be typed, and the help that explains it
    serving     ``relay serve`` and ``relay demo``
    checking    ``relay check``
    logs        how the log looks, and what never stands in it

Modules that cost time to import are imported where a command needs them, so that ``--version`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from relay.cli.arguments import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the value is the exit code. Whatever is the operator's to mend is one line on stderr."""
    options = parse(arguments)
    from relay.config import ConfigError

    try:
        return int(options.run(options))
    except ConfigError as error:
        return _complain(str(error))
    except OSError as error:  # address in use, no permission for a port or a socket's folder
        return _complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except KeyboardInterrupt:
        return 130


def _complain(message: str) -> int:
    print("relay: error:", message, file=sys.stderr)
    return 1
