"""What scenarios are made of: hosts in namespaces, real daemons on them, exact views of what they hold.

`World` owns everything of one scenario (namespaces, processes, files) and takes it away at the end,
whatever happened. A `Host` is a namespace with a directory; a daemon (`Bird`, `Frr`, `GoBgp`, `OpenBgpd`,
`Etcd`, `Mosquitto`, `Agent`, `Reflector`) is started on a host from a configuration text. The BGP daemons
answer in one shape: `sessions()` gives peer address → established, `routes(version)` gives
prefix → next hops of the best path. A `Pinger` counts every lost echo.
"""
