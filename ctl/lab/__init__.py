"""The lab: a whole cluster on one machine, for the demonstration and for the tests."""
