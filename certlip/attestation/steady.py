"""Stores whose records must stay as they are while they are checked."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from certlip.certificate import Store
from certlip.errors import CertificateRejected


class _Steady(Store):
    """The same store; a record that reads differently the second time is refused.

    The checker reads a record, and so does whoever attests it: nothing may be put in its place in between.
    """

    def __init__(self, store: Store):
        super().__init__(store.path)
        self._store = store
        self._seen: dict[str, bytes] = {}

    def names(self) -> list[str]:
        return self._store.names()

    def data(self, name: str, limit: int) -> bytes:
        data = self._store.data(name, limit)
        if name.endswith(".json"):  # everything else is known by its digest
            found = sha256(data).digest()
            if self._seen.setdefault(name, found) != found:
                raise CertificateRejected(f"{name} was changed while it was checked")
        return data


def steady(entries: Iterable[tuple[Store, str]]) -> list[tuple[Store, str]]:
    """The same records, each store wrapped once."""
    wrapped: dict[int, Store] = {}
    return [(wrapped.setdefault(id(store), _Steady(store)), name) for store, name in entries]
