"""What is odd about the policies of one tenant: contradictions, dead rules, traps. Reads, never writes.

`lint(tenant)` lists findings. Each rule is one function named for its code; docs/policies.md says what a code means.
"""

from __future__ import annotations

from policies.lint.findings import CODES, Finding
from policies.lint.run import lint

__all__ = ["CODES", "Finding", "lint"]
