"""UPDATE decoders that share interned attributes.

A route learnt from many peers, or lost and learnt again, has one attribute set in memory only if the sessions
intern in the same place. What bytes mean depends on the kind of a session (octets per AS number, internal
or external, within one machine or not), so there is one `Interner` per kind; a service makes one `Decoders`
and gives it to all its sessions.
"""

from functools import partial

from bgpd.session.session import DecoderFactory
from bgpd.wire.capabilities import Negotiated
from bgpd.wire.interner import Interner
from bgpd.wire.update import UpdateDecoder


class Decoders:
    """Makes the decoder of each new session: `Session(config, now, decoder=decoders)`."""

    __slots__ = ("interners",)

    def __init__(self) -> None:
        self.interners: dict[tuple[bool, bool, bool], Interner] = {}
        """(four-octet AS numbers, internal, of this machine) -> its interner; at most eight."""

    def of(self, *, loopback: bool) -> DecoderFactory:
        """What makes the decoders of peers on this machine, or of all others (RFC 4271 6.3).

        Only the former may have next hops on it.
        """
        return partial(self.__call__, loopback=loopback)

    def __call__(self, negotiated: Negotiated, internal: bool, loopback: bool = True) -> UpdateDecoder:
        """A decoder for what was negotiated."""
        kind = (negotiated.asn4, internal, loopback)
        interner = self.interners.get(kind)
        if interner is None:
            interner = self.interners[kind] = Interner(*kind)
        return UpdateDecoder(negotiated, internal, interner)
