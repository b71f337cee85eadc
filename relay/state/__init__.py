"""What is remembered: responses, their chains, event logs, leases."""

from relay.state.engines import default_path, open_store
from relay.state.store import Store, Stored, StoreError, StoreUnusable

__all__ = ["Store", "StoreError", "StoreUnusable", "Stored", "default_path", "open_store"]
