"""The shared core: protocol, RIB, declared state, plan. Imports no service."""
