"""ExaBGP as the agent's BGP speaker: owned, fed in a safe order, adopted across the agent's own restarts."""
