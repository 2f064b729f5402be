"""The commands of `cairn`, a module each: `command` is the function, or `app` where there are subcommands."""
