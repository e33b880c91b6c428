"""`python -m builder` is `pgha-build`."""

import sys

from builder.cli.main import main

sys.exit(main())
