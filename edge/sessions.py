"""Sessions of a bundle's graphs that are open, as many as there is room for."""

from __future__ import annotations

from edge.memory import memory
from edge.runtime import Session
from quant.rows import Tables
from wire.bundle import Bundle
from wire.manifest import Graph


class Sessions:
    """Opens sessions as they are asked for; the one that was used longest ago is closed first."""

    def __init__(self, bundle: Bundle, threads: int, tables: Tables, providers: tuple[str, ...] = ()) -> None:
        self._bundle, self._threads, self._tables, self._providers = bundle, threads, tables, providers
        self.open = dict[str, Session]()  # by file, the one that was used last at the end

    def of(self, graph: Graph, room_bytes: int = 0, within_bytes: int = 0) -> Session:
        """The session of a graph.

        Args:
            graph: of the bundle.
            room_bytes: what open sessions may take together beyond the runtime; 0: no more than this one is open.
            within_bytes: what the process may take when this one is opened beside them; 0: nobody looks.
        """
        found = self.open.pop(graph.file, None)
        if found is None:
            while self.open and self._is_full(graph, room_bytes, within_bytes):
                self.open.pop(next(iter(self.open))).close()
            path = self._bundle.path(graph.file)
            found = Session(path, graph, self._threads, self._tables, self._providers)
        self.open[graph.file] = found
        return found

    def close(self) -> None:
        """Close all of them."""
        while self.open:
            self.open.popitem()[1].close()

    def _is_full(self, graph: Graph, room_bytes: int, within_bytes: int) -> bool:
        """Whether an open session must go before this graph's is opened: by what is predicted, or by what is there."""
        taken = sum(added(session.graph) for session in self.open.values())
        if not room_bytes or taken + added(graph) > room_bytes:
            return True
        return 0 < within_bytes < memory().get("resident_bytes", 0) + added(graph)


def added(graph: Graph) -> int:
    """What a graph's session takes at its peak beyond a runtime without sessions, in bytes, as predicted."""
    return max(0, graph.memory.predicted_bytes - (graph.memory.base_bytes or 0))
