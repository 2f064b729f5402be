"""The kernel's side of the agent: the routes it should have, those it has, and the batches between."""
