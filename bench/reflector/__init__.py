"""Route reflectors over the same work: Cairn, BIRD, FRR, OpenBGPD, GoBGP.

`loadgen/` (C) plays the clients, `contenders` knows how to run each daemon at its best,
`device` starts and stops one, `cases` is the work, `tournament` runs it interleaved and
`report` prints, keeps and draws what came out.
"""
