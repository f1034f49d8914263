"""The rule of Kubernetes' HorizontalPodAutoscaler v2 on CPU, from outside: it looks at `sc ps` and sets the count by
`sc scale`. Defaults of the controller: every 15 s, tolerance 0.1, at most +4 or ×2 in one period, down to the largest
recommendation of 300 s; 70 % of the CPU limit is the target."""

import json
import math
import threading
import time

from . import install

PERIOD, TOLERANCE, STABLE, TARGET = 15.0, 0.1, 300.0, 0.7


def recommend(ready, usage, target=TARGET):
    """`usage`: share of the limit of each ready replica, mean."""
    ratio = usage / target
    return ready if abs(1 - ratio) <= TOLERANCE else math.ceil(ratio * ready)


class Hpa:
    """Scales while it is entered."""

    def __init__(self, installation, app, maximum, cpus, speed_up=1.0):
        self._installation, self._app, self._maximum, self._cpus, self._speed_up = installation, app, maximum, cpus, speed_up
        self._past, self._end = [], threading.Event()
        self._thread = threading.Thread(target=self._scale, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _scale(self):
        while not self._end.wait(PERIOD / self._speed_up):
            try:
                self._once()
            except Exception as error:  # A period that fails changes nothing, as with the original.
                if not isinstance(error, (install.Trouble, ValueError, KeyError)):
                    raise

    def _once(self):
        replicas = json.loads(self._installation.sc("ps", self._app, "-o", "json"))
        ready = [replica for replica in replicas if replica["state"] == "ready"]
        used = [replica["cpu"] / self._cpus for replica in ready if replica.get("cpu") is not None]
        now, want = time.monotonic(), self._installation.app(self._app)["want"]
        if not used:
            return
        new = min(max(recommend(len(ready), sum(used) / len(used)), 1), self._maximum)
        self._past = [(at, count) for at, count in self._past if at > now - STABLE / self._speed_up] + [(now, new)]
        new = min(new, max(want + 4, 2 * want)) if new > want else max(count for _, count in self._past)
        if new != want:
            self._installation.sc("scale", f"{self._app}={min(new, self._maximum)}", "--detach")
