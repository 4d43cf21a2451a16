"""`tellmt keys add|list|revoke`: the keys file of `serve.auth.keys`, which running services follow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from serve.auth.keys import SCOPES, Key, add_key, read_keys, revoke_key
from tell.command import Command, Group
from tell.console import emit, say, table
from tell.errors import BadInput
from tell.paths import keys_file

QUOTAS = {"requests_per_minute": "requests a minute", "characters_per_day": "characters a day"}


@click.group(cls=Group)
def keys() -> None:
    """Make, list and revoke the API keys of the service."""


def _shown(key: Key) -> dict[str, Any]:
    """What may be told of a key: all but its hash."""
    return {**key.model_dump(mode="json", exclude={"sha256"}), "state": key.state(datetime.now(UTC))}


@keys.command("add", cls=Command)
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, help="What the key may do; may be repeated. Default: translate.")
@click.option("--requests-per-minute", type=click.IntRange(1), help="Most requests per minute. Default: no limit.")
@click.option("--characters-per-day", type=click.IntRange(1), help="Most characters of text in 24 hours. Default: no limit.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), metavar="DATE", help="When the key expires, in UTC. Default: never.")
@click.option("--no-cache", is_flag=True, help="Neither cache translations for this key nor answer it from the cache.")
def add(name: str, scopes: tuple[Any, ...], requests_per_minute: int | None, characters_per_day: int | None, expires: datetime | None, no_cache: bool) -> None:
    """Make a key and print it. It is shown once, since only its hash is kept. NAME says who it is for."""
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise BadInput("a key's name is one line of text", place="NAME", found=repr(name[:120]), valid="1 to 100 characters that can be printed")
    ends = expires.replace(tzinfo=UTC) if expires else None
    if ends and ends <= datetime.now(UTC):
        raise BadInput("this key would have ended before it began", place="--expires", found=ends.isoformat(), valid="a date to come, such as 2030-12-31")
    key, text = add_key(name.strip(), list(scopes) or ["translate"], requests_per_minute, characters_per_day, ends, not no_cache)
    say(f"{keys_file()}: key {key.name} ({key.id}) may {', '.join(key.scopes)}. It is shown this once; send it as X-API-Key, or Authorization: Bearer")
    emit({**_shown(key), "key": text}, lambda: text)


@keys.command("list", cls=Command)
def list_keys() -> None:
    """List the keys by name, without the keys themselves."""
    found = [_shown(k) for k in read_keys(keys_file()) or []]

    def shown() -> Any:
        if not found:
            return f"no keys in {keys_file()}; tellmt keys add makes one"
        rows = []
        for k in found:
            quotas = [f"{k[name]:,} {unit}" for name, unit in QUOTAS.items() if k[name]]
            ends = (k["expires"] or "never").removesuffix("T00:00:00Z")
            rows.append([k["name"], k["id"], ", ".join(k["scopes"]), ", ".join(quotas), k["created"][:10], ends, k["state"]])
        return table(f"keys in {keys_file()}", ["name", "id", "scopes", "quotas", "made", "ends", "state"], rows)

    emit({"path": str(keys_file()), "keys": found}, shown)


@keys.command("revoke", cls=Command)
@click.argument("name")
def revoke(name: str) -> None:
    """Revoke the key of this NAME or id, for good."""
    key = revoke_key(name)
    say(f"{keys_file()}: key {key.name} ({key.id}) is revoked; running services refuse it within a second")
    emit(_shown(key))
