"""What is known, what is best, and what each peer may be told.

* `path`: a source of routes and one of its paths.
* `choices`: all paths of a prefix, shared by the prefixes that have the same.
* `decision`: which path of a prefix is best, and which step decided.
* `loc_rib`: all paths of one family, the best of each prefix, and what changed.
* `reflection`: who may hear of a path, and with which attributes (RFC 4456, RFC 4271).
* `export_log`: the bytes every peer of a group is sent, written once.
* `update_group`: from changes of the Loc-RIB to segments of the log.

Nothing here does I/O or knows the time. Everything is keyed by raw NLRI bytes (see `bgpd.wire.nlri`).
"""
