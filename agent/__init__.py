"""The node agent: publishes what this node has, learns what others have, writes the kernel's routes."""
