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
    """Create, list and revoke the API keys of the service."""


def _public_fields(key: Key) -> dict[str, Any]:
    """The fields of a key that may be shown: all but its hash."""
    return {**key.model_dump(mode="json", exclude={"sha256"}), "state": key.state(datetime.now(UTC))}


@keys.command("add", cls=Command)
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, help="What the key allows; may be given several times. Default: translate.")
@click.option("--requests-per-minute", type=click.IntRange(1), help="The most requests in a minute. Default: no limit.")
@click.option("--characters-per-day", type=click.IntRange(1), help="The most characters of text in 24 hours. Default: no limit.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), metavar="DATE", help="When the key expires, in UTC. Default: never.")
@click.option("--no-cache", is_flag=True, help="The cache neither stores this key's translations nor answers its requests.")
def add(name: str, scopes: tuple[Any, ...], requests_per_minute: int | None, characters_per_day: int | None, expires: datetime | None, no_cache: bool) -> None:
    """Create a key and print it once: only its hash is stored. NAME says who uses it."""
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise BadInput("the name of a key must be one line of text", place="NAME", found=repr(name[:120]), valid="1 to 100 characters that can be printed")
    expiry = expires.replace(tzinfo=UTC) if expires else None
    if expiry and expiry <= datetime.now(UTC):
        raise BadInput("the key would have expired already", place="--expires", found=expiry.isoformat(), valid="a date in the future, such as 2030-12-31")
    key, text = add_key(name.strip(), list(scopes) or ["translate"], requests_per_minute, characters_per_day, expiry, not no_cache)
    say(f"{keys_file()}: key {key.name} ({key.id}) may {', '.join(key.scopes)}. It is shown only once; send it as X-API-Key, or Authorization: Bearer")
    emit({**_public_fields(key), "key": text}, lambda: text)


@keys.command("list", cls=Command)
def list_keys() -> None:
    """List the records of the keys; the keys themselves are not stored."""
    records = [_public_fields(k) for k in read_keys(keys_file()) or []]

    def as_table() -> Any:
        if not records:
            return f"no keys in {keys_file()}; tellmt keys add creates one"
        rows = []
        for k in records:
            quotas = [f"{k[name]:,} {unit}" for name, unit in QUOTAS.items() if k[name]]
            expires = (k["expires"] or "never").removesuffix("T00:00:00Z")
            rows.append([k["name"], k["id"], ", ".join(k["scopes"]), ", ".join(quotas), k["created"][:10], expires, k["state"]])
        return table(f"keys in {keys_file()}", ["name", "id", "scopes", "quotas", "created", "expires", "state"], rows)

    emit({"path": str(keys_file()), "keys": records}, as_table)


@keys.command("revoke", cls=Command)
@click.argument("name")
def revoke(name: str) -> None:
    """Revoke the key with this NAME or id. It cannot be made active again."""
    key = revoke_key(name)
    say(f"{keys_file()}: key {key.name} ({key.id}) is revoked; running services refuse it within a second")
    emit(_public_fields(key))
