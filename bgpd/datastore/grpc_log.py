"""gRPC's own log lines on standard error are off, unless GRPC_VERBOSITY says otherwise.

What goes wrong is in the errors we raise. gRPC looks at the variable once, when it is imported: so this is
imported first, by the package, and setting it is what importing this does.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
