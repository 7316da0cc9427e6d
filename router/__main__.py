"""`python -m router` is `virtusoul-router`."""

import sys

from router.cli import main

sys.exit(main())
