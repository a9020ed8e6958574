#!/usr/bin/env python
from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("CONTROLPLANE_ENV", "development")
    from controlplane.__main__ import main

    sys.exit(main())
