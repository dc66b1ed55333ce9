import pytest

from brcd_lightning.deployment.databases.addresses import is_address, require_address, shown, without_passwords
from brcd_lightning.errors import InputError


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://user:secret@host:5432/db", "postgresql://user@host:5432/db"),
        ("postgresql://user:se?cret@host/db", "postgresql://user@host/db"),
        ("postgresql://user@host/db?password=secret&sslpassword=secret", "postgresql://user@host/db"),
        ("postgresql://host/db?p%61ssword=secret", "postgresql://host/db"),
        ("postgres://user:secret@one:1,[::1]:2/db", "postgres://user@one:1,[::1]:2/db"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db"),
        ("postgresql://user:se%2Fcret@%2Frun%2Fpostgresql/db", "postgresql://user@%2Frun%2Fpostgresql/db"),
        ("lance://photos.lance", "lance://photos.lance"),
        ("lance:///data/me@home/photos", "lance:///data/me@home/photos"),
        ("lance://s3://bucket/photos", "lance://s3://bucket/photos"),
        ("lance://s3://key:secret@bucket/photos?token=secret", "lance://s3://***@bucket/photos"),
    ],
)
def test_addresses_are_shown_without_passwords(address, expected):
    assert shown(address) == expected
    assert require_address(address) == address.partition("://")[0]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:se/cret@host/db",
        "postgresql://user:se@cret@host/db",
        "postgresql://user:secret",
        "postgresql://user:s?e/cret@host/db",
        "postgresql://host/db?password=se@cret",
    ],
)
def test_what_may_be_a_part_of_a_password_is_neither_read_nor_shown(address):
    assert shown(address) == "postgresql://..."
    with pytest.raises(InputError, match=r"^postgresql://... cannot be read as .* in a password, write @ as %40"):
        require_address(address)


@pytest.mark.parametrize("address", ["mysql://u:secret@host/db", "lance://", "postgresql://", "://x", "s3://bucket/x"])
def test_other_databases_are_refused(address):
    with pytest.raises(InputError, match="a database must be postgresql://USER@HOST/DATABASE or lance://F") as told:
        require_address(address)
    assert "secret" not in str(told.value)


def test_folders_are_no_addresses():
    assert is_address("lance://x")
    assert not is_address("photos.brcd")
    assert not is_address("/photos:brcd")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:secret@host/db",
        "postgres://user:se/cret@se:cret@host/db",
        "postgresql:/user:secret@host/db",
        "postgresql://user@host/db?password=secret&sslpassword=secret",
    ],
)
def test_messages_hide_the_passwords_of_addresses(address):
    told = without_passwords(f"{address} is not an image index; make one with: brcd index")
    assert "cret" not in told
    assert told.endswith(" is not an image index; make one with: brcd index")
    assert without_passwords("12:30@home: photos/me@home") == "12:30@home: photos/me@home"
