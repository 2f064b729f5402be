"""The shared core: protocol, RIB, declared state, plan. Imports no service."""

from bgpd import compiled

compiled.prefer()
