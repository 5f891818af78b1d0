# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""``python -m localcloud up|down|status|reset``."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
