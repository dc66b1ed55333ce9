import sys

import pytest

from brcd_lightning.deployment.databases.opener import backend_of, open_images
from brcd_lightning.errors import InputError


@pytest.mark.parametrize(
    ("address", "driver", "module", "extra"),
    [
        ("postgresql://u@h/d", "psycopg", "pgvector", "postgres"),
        ("lance://x", "lancedb", "lance", "lance"),
    ],
)
def test_a_missing_driver_is_one_line_with_its_extra(monkeypatch, address, driver, module, extra):
    monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.delitem(sys.modules, f"brcd_lightning.deployment.databases.{module}", raising=False)
    with pytest.raises(InputError, match=rf"pip install 'brcd_lightning\[{extra}\]'$"):
        open_images(address)


def test_other_addresses_are_refused():
    with pytest.raises(InputError, match="a database must be"):
        backend_of("redis://host/0")
