"""The node agent measured in network namespaces, with real etcd, reflector, ExaBGP and kernels.

Rivals do the same work in the same run: BIRD 2 with its own kernel protocol for routes, a bridge, a VXLAN
overlay and the bare hosts for packets.
"""
