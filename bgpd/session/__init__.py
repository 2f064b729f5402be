"""The sans-IO BGP speaker: one connection (`session`) and the durable peer around its connections (`peer`).

| module | noun |
|---|---|
| `fsm` | states, inputs, actions, and the whole table of RFC 4271 section 8 |
| `timers` | deadlines, with time as an argument |
| `config` | what the owner decides |
| `admission` | whether a peer's OPEN is acceptable |
| `restart` | what the end of a session means for its routes |
| `events` | what a session tells |
| `counters` | what it counts |
| `decoders` | UPDATE decoders that share interned attributes |
| `session` | one TCP connection |
| `peer` | attempts, idle hold, collisions, the operator's will |
"""
