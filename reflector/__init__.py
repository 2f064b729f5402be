"""The route reflector: RIBs and export logs behind a listener."""
