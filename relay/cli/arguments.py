"""What can be typed, and the help that explains it (issue 2 point 2)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from relay import __version__

_EXAMPLES: Final = """\
examples:
  relay serve                                              try it: the built-in demo, or keys in the environment
  relay serve --upstream chat=http://127.0.0.1:8001/v1     in front of vLLM, SGLang, Ollama, llama.cpp, ...
  relay serve --upstream chat=unix:/run/vllm.sock          the same through a Unix socket
  relay serve --config relay.toml --workers 4              as configured
  relay check --config relay.toml                          is every upstream there?

keys in the environment (used without upstreams of your own):
  OPENAI_API_KEY, OPENROUTER_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY (or GOOGLE_API_KEY)
"""


class _Parser(argparse.ArgumentParser):
    """Complains in one line, like every other error of the relay."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message} (see {self.prog} --help)")
        raise SystemExit(2)


def complain(message: str) -> int:
    """The one line on stderr that every failure of a command is; the exit code that goes with it."""
    print("relay: error:", message, file=sys.stderr)
    return 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ``run`` is the function of the command."""
    parser = _Parser(
        prog="relay",
        description="The OpenAI Responses API in front of any model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"relay {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_serve(commands)
    _add_check(commands)
    _add_demo(commands)
    return parser.parse_args(arguments)


_Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add_serve(commands: _Commands[_Parser]) -> None:
    serve = _command(commands, "serve", "run the relay", _serve)
    _add_sources(serve)
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (default 8000; 0: any free one)")
    serve.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    serve.add_argument("--workers", type=int, metavar="N", help="processes that serve (default 1)")
    serve.add_argument("--http", choices=("auto", "httptools", "h11"), help="HTTP parser (default auto)")
    serve.add_argument("--ssl-certfile", metavar="FILE", help="TLS certificate chain, PEM")
    serve.add_argument("--ssl-keyfile", metavar="FILE", help="TLS key, PEM")


def _add_check(commands: _Commands[_Parser]) -> None:
    check = _command(commands, "check", "read the configuration and ask every upstream for its models", _check)
    _add_sources(check)


def _add_demo(commands: _Commands[_Parser]) -> None:
    demo = _command(commands, "demo", "run the demo upstream alone: a scripted model in four wire formats", _demo)
    demo.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    demo.add_argument("--port", type=int, default=8001, help="port to listen on (default 8001; 0: any free one)")
    demo.add_argument("--log-level", choices=_LEVELS, default="info", help="least level logged (default info)")
    demo.add_argument("--inherit", type=int, metavar="FD", help=argparse.SUPPRESS)


_LEVELS: Final = ("debug", "info", "warning", "error")


def _command(commands: _Commands[_Parser], name: str, words: str, run: object) -> _Parser:
    described = words[0].upper() + words[1:] + "."
    parser = commands.add_parser(
        name,
        help=words,
        description=described,
        epilog=_EXAMPLES if name == "serve" else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def _add_sources(parser: _Parser) -> None:
    parser.add_argument("--config", metavar="FILE", help="configuration, TOML")
    parser.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="[NAME:]DIALECT=URL",
        help="an inference server; DIALECT is chat, responses, anthropic or gemini (repeatable)",
    )
    parser.add_argument("--log-level", choices=_LEVELS, help="least level logged (default info)")


def _serve(options: argparse.Namespace) -> int:
    from relay.cli.serving import serve

    return serve(options)


def _check(options: argparse.Namespace) -> int:
    from relay.cli.checking import check

    return check(options)


def _demo(options: argparse.Namespace) -> int:
    from relay.cli.serving import demo

    return demo(options)
