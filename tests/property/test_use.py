"""What a relying party tells of a use: any text gives a use, and an address has one form."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from countersign.access.use import MAX_PATH, MAX_SCOPES, UNTOLD, canonical_address, use_of


@given(st.text(), st.text(), st.text(), st.text())
def test_any_text_gives_a_use_within_bounds(source: str, method: str, path: str, scope: str) -> None:
    use = use_of(source_address=source, method=method, path=path, scope=scope)
    assert len(use.path) <= MAX_PATH
    assert "?" not in use.path
    assert len(use.scopes) <= MAX_SCOPES


@given(st.ip_addresses())
def test_an_address_has_one_form(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    once = canonical_address(str(address))
    assert once
    assert canonical_address(once) == once
    if isinstance(address, ipaddress.IPv4Address):
        assert canonical_address(f"::ffff:{address}") == once


@given(st.text())
def test_what_is_no_address_is_not_told(text: str) -> None:
    found = canonical_address(text)
    if found:
        assert str(ipaddress.ip_address(found)) == found


def test_nothing_told_is_untold() -> None:
    assert use_of() is UNTOLD
