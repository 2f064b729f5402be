"""Room for what a service has open: a reflector a connection per client, an agent six descriptors per ExaBGP.

The usual limit, 1024, is a soft one: who needs more may take it.
"""

import resource

DESCRIPTORS = 65536  # as many as are used at most


def raise_descriptor_limit() -> None:
    """Take what the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
