"""The sans-IO codec of BGP-4: bytes to messages and messages to bytes.

Nothing here opens a socket, reads a clock or keeps a session's state. Bytes come in (`framing.Framer`),
typed messages come out (`messages`, `update`), and the reverse. Whatever a peer sends, the only exception
that leaves this package is `errors.ProtocolError`; any other exception is a defect of ours.

| module | noun |
|---|---|
| `iana` | every code point |
| `errors` | what becomes a NOTIFICATION, and the three severities of RFC 7606 |
| `nlri` | families and prefixes as canonical raw bytes |
| `capabilities` | what an OPEN offers, and what two OPENs together negotiate |
| `messages` | OPEN, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH |
| `framing` | a byte stream cut into messages |
| `as_path` | AS_PATH values, four-octet AS numbers among two-octet speakers |
| `attribute_rows` | one row per path attribute: flags, syntax, severity |
| `examination` | a whole attribute block judged by those rows |
| `attributes` | interned attribute sets |
| `update` | UPDATE, decoded and encoded |
| `malformed` | an UPDATE at fault, as the log must tell of it |
"""
