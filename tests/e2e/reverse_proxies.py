"""nginx and Caddy as processes of the tests' own, with the configurations of docs/proxies and a private CA.

Of those files only host, ports, addresses and certificate paths are replaced, and what a test says it changes.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from harness import BINARY, ROOT, Node, until

# Debian has servers where users' paths do not lead.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
# What every listed file must have; Caddy's have one address per node as well.
NODE_ADDRESSES = [f"127.0.0.1:5550{place}" for place in (1, 2, 3)]


class PortTaken(Exception):
    """Somebody else has taken the port that was free a moment ago."""


# --- Certificates -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """Files: the authority, and a certificate with its key for localhost."""

    ca: Path
    chain: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = name("tests' own authority")
    ca = builder(ca_name, ca_name, ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    leaf = builder(name("localhost"), ca_name, key.public_key())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = leaf.add_extension(x509.SubjectAlternativeName(names), critical=False)
    leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    files = Certificates(directory / "ca.pem", directory / "fullchain.pem", directory / "key.pem")
    pem = serialization.Encoding.PEM
    files.ca.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    files.chain.write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    plain = serialization.NoEncryption()
    files.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return files


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    made = made.serial_number(x509.random_serial_number())
    return made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))


# --- Proxies ----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    """A port nobody listens at, below those that the system gives to outgoing connections. It is not kept."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def replaced(text: str, changes: dict[str, str]) -> str:
    """Each change must find what it is to replace: a test of a file that has lost a line would say nothing."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the configuration"
        text = text.replace(old, new)
    return text


class ReverseProxy:
    """One process of nginx or Caddy. `url` is the host that it serves; nodes are below, under /public1 and so on."""

    def __init__(self, directory: Path, server: str, prefix: str, certificates: Certificates) -> None:
        self.directory = directory
        self.server = server
        self.prefix = prefix
        self.certificates = certificates
        self.port = free_port()
        self.plain_port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory / "log"
        self.access_log = directory / "access.log"
        directory.mkdir(parents=True, exist_ok=True)

    def start(self, targets: list[str], changes: dict[str, str] | None = None) -> None:
        """Leads to the nodes with the addresses `targets` (the first three are there; fewer leave the others empty)."""
        listed = self._listed_file(targets, changes or {})
        command = self._nginx(listed) if self.server == "nginx" else self._caddy(listed)
        self._command = command
        self.start_again()

    def start_again(self) -> None:
        env = {**os.environ, "HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory)}
        env["XDG_CONFIG_HOME"] = str(self.directory)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=env)
        until(self._is_there, f"{self.server} listens")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=30)

    def _is_there(self) -> bool:
        """Whether it is this server that answers: it has our certificate."""
        assert self.process is not None
        if self.process.poll() is not None:
            said = self.log.read_text(errors="replace")
            if re.search("address already in use", said, re.IGNORECASE):
                raise PortTaken(said)
            raise AssertionError(f"{self.server} did not start: {said}")
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        try:
            with socket.create_connection(("127.0.0.1", self.port)) as plain:
                context.wrap_socket(plain, server_hostname="localhost").close()
        except OSError:
            return False
        return True

    def _listed_file(self, targets: list[str], changes: dict[str, str]) -> Path:
        style = "Caddyfile-prefix-{}" if self.server == "caddy" else "nginx-prefix-{}.conf"
        text = (ROOT / "docs" / "proxies" / style.format(self.prefix)).read_text()
        text = replaced(text, changes)
        text = replaced(
            text,
            {
                "/etc/ssl/host.example/fullchain.pem": str(self.certificates.chain),
                "/etc/ssl/host.example/key.pem": str(self.certificates.key),
                **dict(zip(NODE_ADDRESSES, targets)),
            },
        )
        if self.server == "caddy":
            text = replaced(text, {"\nhost.example {": f"\n{self.url} {{"})
        else:
            ports = {
                "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
                "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
                "https://$host$request_uri": f"https://$host:{self.port}$request_uri",
                "server_name host.example;": "server_name localhost;",
            }
            text = replaced(text, ports)
        written = self.directory / "listed"
        written.write_text(text)
        return written

    def _nginx(self, listed: Path) -> list[str]:
        temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in temporary)
        # As root its workers would be somebody who may not look into the directories of tests.
        user = "user root;" if os.geteuid() == 0 else ""
        main = self.directory / "nginx.conf"
        main.write_text(
            f"daemon off; {user} pid {self.directory}/pid; error_log stderr warn; events {{}}\n"
            f"http {{ access_log {self.access_log}; {paths} include {listed}; }}\n"
        )
        return [program("nginx"), "-p", str(self.directory), "-e", "stderr", "-c", str(main)]

    def _caddy(self, listed: Path) -> list[str]:
        main = self.directory / "Caddyfile"
        options = "admin off\n auto_https disable_redirects\n default_bind 127.0.0.1"
        log = "log {\n format json\n level warn\n }"
        main.write_text(f"{{\n {options}\n {log}\n}}\n{listed.read_text()}")
        return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(main)]


def program(server: str) -> str:
    found = shutil.which(server, path=PATH)
    assert found is not None, f"{server} is not installed: run scripts/proxies"
    return found


# --- Nodes behind them ------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """Nodes and the proxy in front of them."""

    proxy: ReverseProxy
    nodes: list[Node]
    urls: list[str]


def documented(prefix: str) -> str:
    """The node's configuration in docs/reverse-proxy.md."""
    page = (ROOT / "docs" / "reverse-proxy.md").read_text()
    blocks = re.findall(r"^(Kept|Stripped):\n\n```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    found = {title.lower(): text for title, text in blocks}
    assert set(found) == {"kept", "stripped"}
    text: str = found[prefix]
    return text


def node_behind(directory: Path, proxy: ReverseProxy, index: int, prefix: str) -> Node:
    """A node with the documented configuration for a prefix that is kept, or stripped."""
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "fdrtd.toml"
    text = replaced(documented(prefix), {"https://host.example": proxy.url})
    text = text.replace("/public1", f"/public{index + 1}")
    config.write_text(text + 'policy = "teaching"\n')
    command = [str(BINARY), "serve", "--config", str(config), "--listen={listen}"]
    command += [f"--data-dir={directory / 'data'}", f"--peer-ca-file={proxy.certificates.ca}"]
    return Node(directory, index, command=command)


@contextlib.contextmanager
def site(
    directory: Path,
    server: str,
    prefix: str,
    certificates: Certificates,
    count: int = 3,
    changes: dict[str, str] | None = None,
    nodes_prefix: str | None = None,
) -> Iterator[Site]:
    """`count` nodes that know each other through the proxy only; `nodes_prefix` is what they are configured for."""
    for attempt in range(10):
        place = directory / f"attempt{attempt}"
        proxy = ReverseProxy(place, server, prefix, certificates)
        started: list[Node] = []
        try:
            for index in range(count):
                started.append(node_behind(place / f"node{index}", proxy, index, nodes_prefix or prefix))
            proxy.start([node.listen for node in started], changes)
            yield Site(proxy, started, [f"{proxy.url}/public{index + 1}" for index in range(count)])
            return
        except PortTaken:
            continue
        finally:
            proxy.stop()
            for node in started:
                node.kill()
    raise AssertionError("no port was free for long enough")
