"""The gate: one call of a model, from a caller's token to the record of what it used.

    with gate.call(token, model="gpt-4o", request_id=…) as call:
        answer = provider(call.model, max_tokens=call.max_output_tokens, …)
        call.usage(prompt_tokens=…, completion_tokens=…)

It verifies the key, decides about the model and the tokens by the policies in force, reserves the most that the call may use
against every limit, notes it in flight, and records and settles how it ended, whatever happens in between. A refusal is
`Denied`, before anything is sent anywhere. Two round trips to the database, when everything else is cached. docs/gate.md
"""

from __future__ import annotations

from auditing.errors import DuplicateRequest
from controlplane.denials import Denied, Object
from controlplane.gate.asking import MAX_REQUEST_ID
from controlplane.gate.calls import Call, authorize, call
from controlplane.gate.ending import catch_up
from controlplane.gate.grants import Grant
from controlplane.gate.storing import files
from controlplane.gate.tally import counts

__all__ = (
    "MAX_REQUEST_ID",
    "Call",
    "Denied",
    "DuplicateRequest",
    "Grant",
    "Object",
    "authorize",
    "call",
    "catch_up",
    "counts",
    "files",
)
