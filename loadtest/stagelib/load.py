"""Load: threads that wait between their requests, or requests at given times."""

import http.client
import queue
import random
import threading
import time
from typing import NamedTuple

TIMEOUT = 30.0


class Answer(NamedTuple):
    """One request. Times in seconds of time.monotonic()."""

    at: float
    seconds: float
    status: int  # 0: none came
    fields: tuple = ()  # names of those asked for that it had

    def late(self, objective):
        return self.status != 200 or self.seconds > objective


class Client:
    """One kept connection."""

    def __init__(self, address, host, path, keep=()):
        self._address, self._host, self._path, self._keep, self._connection = address, host, path, keep, None

    def ask(self, since=None):
        """One request; its time counts from `since`, when it should have been sent."""
        began = since if since is not None else time.monotonic()
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT)
            self._connection.request("GET", self._path, headers={"host": self._host})
            response = self._connection.getresponse()
            response.read()
            status, fields = response.status, tuple(name for name in self._keep if response.getheader(name))
        except (OSError, http.client.HTTPException):
            self._connection, status, fields = None, 0, ()
        return Answer(began, time.monotonic() - began, status, fields)


def waiting_threads(client, threads, requests, longest_wait, seed):
    """Each thread sends so many requests, with a random wait up to the longest before each. All answers, by time."""
    answers = []

    def one(number):
        dice, mine = random.Random(f"{seed}/{number}"), client()
        for _ in range(requests):
            time.sleep(dice.uniform(0.0, longest_wait))  # This is the load itself; nothing is being waited for.
            answers.append(mine.ask())

    workers = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sorted(answers)


def at_times(client, times, workers=64):
    """Requests at these times (rising, seconds from now), sent on time however slow the answers are, until all workers
    wait; from then on lateness counts as part of the answer's time. All answers, by time."""
    answers, due, start = [], queue.SimpleQueue(), time.monotonic()

    def one():
        mine = client()
        while (moment := due.get()) is not None:
            answers.append(mine.ask(since=moment))

    threads = [threading.Thread(target=one, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for offset in times:
        time.sleep(max(0.0, start + offset - time.monotonic()))
        due.put(start + offset)
    for _ in threads:
        due.put(None)
    for thread in threads:
        thread.join()
    return sorted(answers)


def percentile(values, share):
    """The value that so large a share of the values does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
