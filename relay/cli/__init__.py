"""The command line: the one place where settings, application, server and demo are put together.

    arguments   what can be typed, and the help that explains it
    serving     ``relay serve`` and ``relay demo``
    checking    ``relay check``
    logs        how the log looks, and what never stands in it
    lines       where its lines go: nobody who logs waits for who reads

Modules that cost time to import are imported where a command needs them, so that ``--version`` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.cli.arguments import complain, parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the value is the exit code. Whatever is the operator's to mend is one line on stderr."""
    options = parse(arguments)
    from relay.config import ConfigError

    try:
        return int(options.run(options))
    except ConfigError as error:
        return complain(str(error))
    except KeyboardInterrupt:
        return 130
