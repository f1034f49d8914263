"""An installation of its own, beside whatever runs: loopback ports given by the system, taken down again at the end."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Trouble(Exception):
    """Something outside went wrong; the text says what."""


class Installation:
    """`sc up` on entering, `sc down --purge` on leaving. Programs: $SC_BIN_DIR, else deploy/images builds them."""

    source = None  # of the reference app: its image

    def __enter__(self):
        self._home = tempfile.TemporaryDirectory(prefix="stages-")
        self.name = f"scs{os.getpid()}"
        self._sc = programs() / "sc"
        self.http, listen, admin = (f"127.0.0.1:{port}" for port in free_ports(3))
        addresses = ["--http", self.http, "--listen", listen, "--admin", admin, "--pool", "10.210.0.0/16"]
        try:
            self.sc("up", "--instance", self.name, *addresses)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(self._command("down", "--instance", self.name, "--purge"), env=self._env(), capture_output=True)
        self._home.cleanup()

    def sc(self, *words, given=None):
        """Runs a command of ours; what it prints."""
        done = subprocess.run(self._command(*words), env=self._env(), input=given, capture_output=True, text=True, timeout=180)
        if done.returncode != 0:
            raise Trouble(f"sc {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def deploy(self, file):
        """Deploys an app file, given as text, and waits until it serves."""
        path = pathlib.Path(self._home.name, "sc.toml")
        path.write_text(file)
        self.sc("deploy", "-f", str(path))

    def app(self, name):
        """How an app stands, as `sc ls` tells."""
        return next(app for app in json.loads(self.sc("ls", "-o", "json")) if app["app"] == name)

    def _command(self, *words):
        return [str(self._sc), *words]

    def _env(self):
        env = {name: value for name, value in os.environ.items() if name != "SC_TOKEN"}
        return env | {"HOME": self._home.name, "XDG_CONFIG_HOME": self._home.name}


class Processes(Installation):
    """A manager and a proxy as plain processes, and replicas as well: no Docker."""

    def __enter__(self):
        self._home, self._parts = tempfile.TemporaryDirectory(prefix="stages-"), []
        self.name = f"scs{os.getpid()}"
        folder = programs()
        self._sc = folder / "sc"
        self.source = self.source_of(folder)
        self.http, self.listen, self.admin = (f"127.0.0.1:{port}" for port in free_ports(3))
        home = pathlib.Path(self._home.name)
        self._manager = [folder / "sc-manager", "--data", home / "manager", "--instance", self.name]
        self._manager += self.engine()
        self._manager += ["--store", "embedded", "--listen", self.listen, "--socket", home / "manager.sock"]
        self._proxy = [folder / "sc-proxy", "--listen", self.http, "--admin", self.admin, "--data", home / "proxy"]
        self._proxy += ["--manager", self.manager(), "--token-file", home / "manager" / "token"]
        try:
            self._begin(self._manager, "manager")
            self._until(lambda: self.sc("ls"))
            self._begin(self._proxy, "proxy")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            for app in json.loads(self.sc("ls", "-o", "json")):
                self.sc("rm", app["app"])
        except (Trouble, subprocess.TimeoutExpired, ValueError):
            pass
        for part in reversed(self._parts):
            part.terminate()
        for part in self._parts:
            part.wait(timeout=40)
        self._home.cleanup()

    def engine(self):
        return ["--engine", "process"]

    def source_of(self, folder):
        return f'binary = "{folder / "sc-matrix"}"\nport = 8080', []

    def manager(self):
        """Where the proxy finds it."""
        return f"http://{self.listen}"

    def restart_proxy(self):
        """Kills the proxy and starts it again."""
        self._parts[1].kill()
        self._parts[1].wait()
        self._parts.pop(1)
        self._begin(self._proxy, "proxy")

    def _begin(self, command, name):
        log = open(pathlib.Path(self._home.name, f"{name}.log"), "ab")
        self._parts.append(subprocess.Popen([str(word) for word in command], env=self._env(), stdout=log, stderr=log))

    def _until(self, works):
        end = time.monotonic() + 30
        while True:
            try:
                return works()
            except Trouble:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def _env(self):
        return super()._env() | {"SC_MANAGER": f"unix:{self._home.name}/manager.sock"}


def programs():
    if given := os.environ.get("SC_BIN_DIR"):
        return pathlib.Path(given)
    images = ROOT / "deploy" / "images"
    subprocess.run([images], check=True, stdout=sys.stderr)
    return pathlib.Path(subprocess.run([images, "--binaries"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def free_ports(count):
    # All are held until the last is known, so that none is given twice.
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
