"""Sockets to inference servers: connections, their pool, TLS, timeouts and the one retry. Knows no dialect."""

from relay.upstream.client import Client
from relay.upstream.connection import Answer, Timeouts
from relay.upstream.origin import Origin, parse_base_url, parse_url
from relay.upstream.pool import Counts

__all__ = ["Answer", "Client", "Counts", "Origin", "Timeouts", "parse_base_url", "parse_url"]
