"""How many replicas there are, several times a second, seen from outside: `sc ls`."""

import subprocess
import threading
import time
from typing import NamedTuple

from . import install

EVERY = 0.2


class Seen(NamedTuple):
    """One look. The time in seconds of time.monotonic()."""

    at: float
    want: int
    have: int
    ready: int

    def paid(self):
        """Starting, ready and draining ones."""
        return max(self.want, self.have, self.ready)


class Rise(NamedTuple):
    """The count wanted went up."""

    at: float
    to: int
    by: int
    seconds: float | None  # until as many were ready; none: it went down before


class Watch:
    """Looks while it is entered."""

    def __init__(self, installation, app):
        self._installation, self._app, self.seen = installation, app, []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _look(self):
        while not self._end.wait(EVERY):
            try:
                app = self._installation.app(self._app)
            except (install.Trouble, subprocess.TimeoutExpired):
                continue  # A look that failed is a gap, and no fewer replicas.
            self.seen.append(Seen(time.monotonic(), app["want"], app["have"], app["ready"]))


def between(seen, begin, end):
    return [look for look in seen if begin <= look.at < end]


def replica_seconds(seen):
    return sum(look.paid() * (after.at - look.at) for look, after in zip(seen, seen[1:]))


def rises(seen):
    """Every rise of the count wanted."""
    found = []
    for place, (before, look) in enumerate(zip(seen, seen[1:]), start=1):
        if look.want > before.want:
            seconds = None
            for later in seen[place:]:
                if later.ready >= look.want:
                    seconds = later.at - look.at
                if later.ready >= look.want or later.want < look.want:
                    break
            found.append(Rise(look.at, look.want, look.want - before.want, seconds))
    return found
