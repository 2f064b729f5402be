"""A plan as another speaker's configuration text: BIRD 1.6 and 2, ExaBGP.

Pure functions of a plan; what a plan only refers to (passwords) is handed in. Text that comes from
operators can never leave the string it stands in: it is refused or made harmless (see ``quoting``).
"""

from bgpd.render import exabgp
from bgpd.render.bird import BirdOptions, bird, bird_files
from bgpd.render.errors import RenderError

__all__ = ["BirdOptions", "RenderError", "bird", "bird_files", "exabgp"]
