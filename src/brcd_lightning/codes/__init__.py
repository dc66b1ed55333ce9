"""Hash codes: binary codes, packing and distances, and clusters of codes with their bit masks."""

from brcd_lightning.codes.binary import (
    as_packed,
    as_signs,
    check_codes,
    hamming_distance,
    pack,
    require_same_bits,
    require_tensor,
    sign,
    sign_ste,
    straight_through,
    unpack,
)

__all__ = [
    "as_packed",
    "as_signs",
    "check_codes",
    "hamming_distance",
    "pack",
    "require_same_bits",
    "require_tensor",
    "sign",
    "sign_ste",
    "straight_through",
    "unpack",
]
