"""Database addresses, which are never shown with their passwords."""

from __future__ import annotations

import re

from brcd_lightning.errors import InputError

POSTGRES, LANCE = ("postgresql", "postgres"), "lance"
_HOST = r"(?:[^@/?#:,\[\]]*|\[[^@/?#\]]*\])(?::\d+)?"
_SERVER = re.compile(
    rf"(?P<scheme>\w+)://(?:(?P<user>[^@/?#:]*)(?::[^@/]*)?@)?(?P<hosts>{_HOST}(?:,{_HOST})*)(?P<database>/[^@?#]*)?(?:\?[^@]*)?"
)
"""Stricter than PostgreSQL's own grammar, so that no part of a password is shown as a host or a port."""


def is_address(text: str) -> bool:
    """True for a database address, False for an index folder."""
    return "://" in text


def shown(address: str) -> str:
    """The address without its password, and without its options, which may contain another password."""
    scheme, _, rest = address.partition("://")
    if scheme.lower() == LANCE:
        return f"{scheme}://{re.sub('://[^/]*@', '://***@', rest).partition('?')[0]}"
    found = _SERVER.fullmatch(address)
    if found is None:
        return f"{scheme}://..."
    user = "" if found["user"] is None else f"{found['user']}@"
    return f"{scheme}://{user}{found['hosts']}{found['database'] or ''}"


def without_passwords(text: str) -> str:
    """The message with ``***`` in place of passwords and options in every PostgreSQL address."""
    hidden = re.sub(r"(?i)(postgres(?:ql)?:/{1,2}[^\s:/@]*):\S*@", r"\1:***@", text)
    return re.sub(r"(?i)(postgres(?:ql)?:/[^\s?]*\?)\S+", r"\1***", hidden)


def require_address(address: str) -> str:
    """Validates an address and returns its scheme in lower case.

    Raises:
        InputError: if the address does not name a supported database.
    """
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    if scheme not in (*POSTGRES, LANCE) or not rest:
        raise InputError(
            f"a database must be postgresql://USER@HOST/DATABASE or lance://FOLDER, got {shown(address)}; see "
            "docs/search.md."
        )
    if scheme != LANCE and _SERVER.fullmatch(address) is None:
        raise InputError(
            f"{shown(address)} cannot be read as postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in a password, write "
            "@ as %40, / as %2F and % as %25."
        )
    return scheme
