"""A top-of-rack router's configuration in the language of its make."""

from collections.abc import Callable, Mapping

from bgpd.render.tor import Router, Vendor
from bgpd.render.tor_bird import bird
from bgpd.render.tor_frr import eos, frr
from bgpd.render.tor_gobgp import gobgp
from bgpd.render.tor_junos import junos
from bgpd.render.tor_openbgpd import openbgpd

_LANGUAGES: Mapping[Vendor, Callable[[Router], str]] = {
    Vendor.FRR: frr,
    Vendor.BIRD: bird,
    Vendor.GOBGP: gobgp,
    Vendor.OPENBGPD: openbgpd,
    Vendor.EOS: eos,
    Vendor.JUNOS: junos,
}


def router_text(router: Router, vendor: Vendor) -> str:
    """Give the configuration; the text ends in a newline. Raises ``RenderError`` for what cannot be said."""
    return _LANGUAGES[vendor](router)
