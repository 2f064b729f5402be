"""The operator's side of Cairn: the `cairn` command and the lab.

One small module per command in `ctl.commands`, named by the table in `ctl.main` and imported only when it
is asked for. What the commands share: `ctl.exits` (failures and exit codes), `ctl.output` (tables, JSON,
YAML), `ctl.options` (options that mean the same everywhere), `ctl.state` (the declared state),
`ctl.services` (the status interfaces of running services). `ctl.lab` runs a whole cluster on one machine.
"""
