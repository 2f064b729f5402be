"""What becomes of a route with some attributes: withdrawn, told without one of them, kept, or a reset."""

import pytest

from bgpd.wire.errors import ErrorAction, ProtocolError
from bgpd.wire.nlri import IPV4_UNICAST
from tests.wire.samples import PREFIX, announced, body, decoder, withdrawn


def assert_withdrawn(block: bytes, code: int, subcode: int | None = None, internal: bool = False) -> None:
    update = decoder(internal).decode(body(block, PREFIX))
    assert announced(update) == []
    assert withdrawn(update) == [(IPV4_UNICAST, PREFIX)]
    faults = [fault for fault in update.errors if fault.action == ErrorAction.TREAT_AS_WITHDRAW]
    assert code in {fault.code for fault in faults}
    if subcode is not None:
        assert subcode in {fault.subcode for fault in faults}


def assert_discarded(block: bytes, code: int, internal: bool = False) -> None:
    update = decoder(internal).decode(body(block, PREFIX))
    assert announced(update) == [(IPV4_UNICAST, PREFIX)]
    assert withdrawn(update) == []
    assert [(fault.code, fault.action) for fault in update.errors] == [(code, ErrorAction.ATTRIBUTE_DISCARD)]
    assert update.reach[0].attributes.value(code) is None


def assert_kept(block: bytes, code: int, value: bytes, internal: bool = False) -> None:
    update = decoder(internal).decode(body(block, PREFIX))
    assert announced(update) == [(IPV4_UNICAST, PREFIX)]
    assert list(update.errors) == []
    assert update.reach[0].attributes.value(code) == value


def assert_reset(data: bytes, subcode: int, internal: bool = False) -> None:
    with pytest.raises(ProtocolError) as caught:
        decoder(internal).decode(data)
    assert (caught.value.code, caught.value.subcode) == (3, subcode)
