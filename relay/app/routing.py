"""From the model that a client names to the upstreams that may answer, pure.

Source: decisions 16 and 17; their order is the order of ``Router._targets``.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from relay.config import Glob, Settings, UpstreamSettings
from relay.errors import RelayError

_LIMIT: Final = 512  # characters of a model's name


class Target(NamedTuple):
    """One place that may answer: the upstream, and what the model is called there."""

    upstream: UpstreamSettings
    model: str


class Route(NamedTuple):
    """``name`` is what the answer says as ``model``; ``targets`` are tried in order (in this round the first is)."""

    name: str
    targets: tuple[Target, ...]


class _Ranked(NamedTuple):
    glob: Glob
    literals: int
    targets: tuple[str, ...]


class Router:
    """The routes of one configuration."""

    def __init__(self, settings: Settings) -> None:
        self._default = settings.server.default_model
        self._upstreams = {one.name: one for one in settings.upstreams}
        self._aliases = {name: targets for name, targets in settings.models.items() if not _is_glob(name)}
        globs = [
            _Ranked(Glob(name), len(name) - name.count("*") - name.count("?"), targets)
            for name, targets in settings.models.items()
            if _is_glob(name)
        ]
        # The sort is stable: among equals the order of the file stays.
        self._globs = sorted(globs, key=lambda glob: -glob.literals)
        self._own = [(Glob(glob), one) for one in settings.upstreams for glob in one.models]
        self._patterns = [*settings.models, *(glob for one in settings.upstreams for glob in one.models)]

    def resolve(self, model: str | None) -> Route:
        """The route of a request for ``model``; without one the default's. Raises: RelayError."""
        name = model or self._default
        if not name:
            raise RelayError("missing_parameter", "Missing required parameter: 'model'.", param="model")
        if len(name) > _LIMIT:
            raise RelayError("invalid_value", f"'model' is longer than {_LIMIT} characters.", param="model")
        targets = self._targets(name)
        if not targets:
            raise RelayError("model_not_found", self._not_found(name), param="model")
        return Route(name, targets)

    def aliases(self) -> tuple[str, ...]:
        """The names in ``[models]`` that are not globs, in the order of the file: what ``/v1/models`` lists first."""
        return tuple(self._aliases)

    def _targets(self, name: str) -> tuple[Target, ...]:
        if name in self._aliases:
            return self._all(self._aliases[name])
        if named := self._named(name):
            return (named,)
        for glob in self._globs:
            taken = glob.glob.match(name)
            if taken is not None:
                return self._all(tuple(target.replace("*", taken) for target in glob.targets))
        found = self._by_model(name)
        return (found,) if found else ()

    def _all(self, targets: tuple[str, ...]) -> tuple[Target, ...]:
        """Targets as ``[models]`` writes them: ``UPSTREAM/model``, or a model whose upstream its name tells."""
        found = (self._named(target) or self._by_model(target) for target in targets)
        return tuple(target for target in found if target)

    def _named(self, name: str) -> Target | None:
        """``NAME/rest`` or ``NAME:rest``, split at the first separator, where NAME is an upstream."""
        head, *rest = re.split("[/:]", name, maxsplit=1)
        upstream = self._upstreams.get(head)
        return Target(upstream, rest[0]) if upstream and rest and rest[0] else None

    def _by_model(self, name: str) -> Target | None:
        for glob, upstream in self._own:
            if glob.match(name) is not None:
                return Target(upstream, name)
        if len(self._upstreams) == 1:
            return Target(next(iter(self._upstreams.values())), name)
        return None

    def _not_found(self, name: str) -> str:
        known = [*self._patterns, *(f"{one}/…" for one in self._upstreams)]
        return f"The model '{name}' does not exist here. Configured: {', '.join(known) or 'nothing'}."


def _is_glob(name: str) -> bool:
    return "*" in name or "?" in name
