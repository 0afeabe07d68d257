"""A server with the environment of `worlds/vault.py`, and everything that it has to keep secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.distributions import install
from tests.e2e.servers import Server, Servers

VAULT = Path(__file__).parent / "worlds" / "vault.py"

HIDDEN = "canary-of-the-code"
# of letters that JSON, URLs and Python write in more than one way
PASSWORD = "canary/of \"env.yaml\" & 'quotes' \\ é"
LONG = "canary-of-a-long-key-" + "0123456789" * 12  # pydantic shows both ends of it
VARIABLE = "canary-of-a-variable"
KEYS = ("canary-of-the-old-control-key", "canary-of-the-new-control-key")

CONFIGURATION = """
keys: ["${OLD_KEY}", "${NEW_KEY}"]
environments:
  vault: {config: {password: "${vault_password}"}}
  cellar: {plugin: vault, config: {password: "${LONG_PASSWORD}"}}
  unstartable: {config: {password: "${vault_password}"}}
  unbuildable: {config: {password: "${vault_password}"}}
  unregistrable: {config: {password: "${LONG_PASSWORD}"}}
extensions:
  nosy: {password: "${VAULT_VARIABLE}"}
  talkative: {password: "${vault_password}"}
"""


@dataclass
class Canaries:
    """What must not be found, and where it comes from."""

    planted: dict[str, str] = field(default_factory=dict)
    """What each is, by its text."""

    def plant(self, what: str, *texts: str) -> None:
        """Add what must not be found; the wire has other ways to write it."""
        for text in texts:
            for written in {text, repr(text)[1:-1], text.split('"')[0]}:
                self.planted[written] = what

    def plant_token(self, what: str, token: str) -> None:
        """Add a token, and what is kept of it."""
        self.plant(what, token, token[:-4], token[4:])
        self.plant(f"{what}, hashed", sha256(token.encode()).hexdigest())

    def found_in(self, seen: str | bytes) -> dict[str, str]:
        """Return what is found, with what surrounds it."""
        text = seen.decode("utf-8", "replace") if isinstance(seen, bytes) else seen
        return {
            what: text[max(0, text.index(canary) - 100) : text.index(canary) + 100]
            for canary, what in self.planted.items()
            if canary in text
        }


def secrets_of_the_operator() -> Canaries:
    """Return what the server is configured with."""
    canaries = Canaries()
    canaries.plant("a value of env.yaml", PASSWORD, LONG[:24], LONG[-20:], LONG)
    canaries.plant("a variable", VARIABLE)
    canaries.plant("a control key", *KEYS)
    return canaries


VARIABLES = {
    "OLD_KEY": KEYS[0],
    "NEW_KEY": KEYS[1],
    "VAULT_VARIABLE": VARIABLE,
    "VAULT_HIDDEN": HIDDEN,
}


def start(servers: Servers, *arguments: str, **more: str) -> Server:
    """Start a server whose environments, keys and options are full of canaries."""
    write(servers.folder)
    server = servers.start(*arguments, **VARIABLES, **more)
    server.key = KEYS[1]
    return server


def write(folder: Path) -> None:
    """Install the environments, and configure them."""
    points = {
        "vault": "Vault",
        "unstartable": "Unstartable",
        "unbuildable": "Unbuildable",
        "unregistrable": "Unregistrable",
        "nosy": "Nosy",
        "talkative": "Talkative",
    }
    install(folder, "vault", VAULT, points)
    (folder / "gymhost.yaml").write_text(CONFIGURATION, "utf-8")
    escaped = PASSWORD.replace("'", "''")
    (folder / "env.yaml").write_text(
        f"vault_password: '{escaped}'\nlong_password: {LONG}\n", "utf-8"
    )
