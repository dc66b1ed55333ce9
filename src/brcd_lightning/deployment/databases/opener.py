"""Selection of a database backend by address."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from brcd_lightning.deployment.databases.addresses import LANCE, require_address
from brcd_lightning.deployment.databases.database import TABLE, Backend
from brcd_lightning.deployment.databases.database_images import DatabaseImages
from brcd_lightning.errors import InputError


def backend_of(address: str) -> Backend:
    """Returns the backend module for an address.

    Args:
        address: ``postgresql://...`` or ``lance://...``.

    Raises:
        InputError: if the scheme is not supported, or its driver is not installed.
    """
    name, extra = ("lance", "lance") if require_address(address) == LANCE else ("pgvector", "postgres")
    try:
        return cast(Backend, import_module(f"brcd_lightning.deployment.databases.{name}"))
    except ImportError as error:
        raise InputError(
            f"{name} needs {error.name}; install it with: pip install 'brcd_lightning[{extra}]'"
        ) from error


def open_images(address: str, table: str = TABLE) -> DatabaseImages:
    """Opens a table written by ``brcd push``.

    Args:
        address: of the database.
        table: name of the table.

    Raises:
        InputError: if the table does not exist, or the database cannot be reached.
    """
    return DatabaseImages(backend_of(address).open_table(address, table))
