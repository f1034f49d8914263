"""An installation of its own, beside whatever runs: loopback ports given by the system, taken down again at the end."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Trouble(Exception):
    """Something outside went wrong; the text says what."""


class Installation:
    """`sc up` on entering, `sc down --purge` on leaving. Programs: $SC_BIN_DIR, else deploy/images builds them."""

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
