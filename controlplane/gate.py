"""The gate: one call of a model, from a caller's token to the record of what it used.

    with gate.call(token, model="gpt-4o", request_id=…) as call:
        answer = provider(…)
        call.usage(prompt_tokens=…, completion_tokens=…)

It verifies the key, decides about the model by the policies in force, notes the call in flight, and records how it ended,
whatever happens in between. A refusal is `Denied`, before anything is sent anywhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

from django.db import DatabaseError, InterfaceError, OperationalError

from auditing.lifecycle import Reported, counted
from auditing.models import InferenceRequest
from controlplane.core.caches import CacheUnavailable
from controlplane.core.errors import ControlPlaneError
from controlplane.denials import Denied, record
from policies.errors import PolicyError
from policies.models import Policy
from policies.resolution import Decision, EffectivePolicy
from tenants.errors import InvalidKey
from tenants.models import APIKey
from tenants.verification import VerifiedKey

__all__ = ("MAX_REQUEST_ID", "Call", "Denied", "Grant", "authorize", "call")

logger = logging.getLogger(__name__)

MAX_REQUEST_ID = 190
"""Characters of a caller's request id: room is left for the numbers of its retries."""

_STATES = {f"{name}_disabled": name for name in ("tenant", "app", "branch", "user")}
_LEVELS = ((16, "key"), (8, "user"), (4, "branch"), (2, "app"), (1, "tenant"))


@dataclass(slots=True)
class Grant:
    """A call that may be made: settle, fail or release it once it has ended.

    id: of the request, in flight and then in the log. model: canonical id to call. Each of the three ends the call; ended
    again alike nothing changes, differently ConflictingDuplicate is raised.
    """

    id: UUID
    key: VerifiedKey
    model: str
    decision: Decision
    _began: float = field(default_factory=time.monotonic, repr=False)
    _first_token: float | None = field(default=None, repr=False)

    def first_token(self) -> None:
        """Note that the answer has begun; the time to it is recorded."""
        if self._first_token is None:
            self._first_token = time.monotonic()

    def settle(self, usage: object = None, cost: object = None) -> InferenceRequest:
        """The call succeeded. usage: as `auditing.lifecycle.Reported`; None = the provider reported nothing."""
        fact: InferenceRequest = InferenceRequest.objects.complete(
            self.id, usage=usage, cost=cost, latency_ms=self._elapsed(), ttft_ms=self._ttft()
        )
        return fact

    def fail(self, error: str, error_code: str = "provider_error", usage: object = None) -> InferenceRequest:
        """The call failed; it costs nothing."""
        fact: InferenceRequest = InferenceRequest.objects.fail(
            self.id, error=error, error_code=error_code, usage=usage, latency_ms=self._elapsed()
        )
        return fact

    def release(self, usage: object = None) -> InferenceRequest:
        """The caller gave up; what was used until then is recorded."""
        fact: InferenceRequest = InferenceRequest.objects.cancel(self.id, usage=usage, latency_ms=self._elapsed())
        return fact

    def _elapsed(self) -> int:
        return round((time.monotonic() - self._began) * 1000)

    def _ttft(self) -> int | None:
        return None if self._first_token is None else round((self._first_token - self._began) * 1000)


@dataclass(slots=True)
class Call:
    """A call under way, in the body of `gate.call`. model: canonical id to call; request_id names it in the log."""

    grant: Grant
    reported: Reported | None = None

    @property
    def model(self) -> str:
        return self.grant.model

    def usage(self, **counts: Any) -> None:
        """What the provider reported: the fields of `auditing.lifecycle.Reported`. Called again, the last one counts.

        Raises auditing.errors.InvalidRow for counts that no call has; the call is then recorded as failed.
        """
        reported = Reported(**counts)
        counted(reported)
        self.reported = reported

    def first_token(self) -> None:
        """Note that the answer has begun."""
        self.grant.first_token()


@contextmanager
def call(
    token: str,
    *,
    model: str,
    input_tokens: int | None = None,
    max_output_tokens: int | None = None,
    request_id: str | None = None,
    environment: str | None = None,
    scope: str | None = None,
    region: str | None = None,
    stream: bool = False,
    deadline: timedelta = timedelta(minutes=10),
) -> Iterator[Call]:
    """Make one call of a model; arguments and errors as for `authorize`.

    The body calls the provider and reports its usage. Left in order, the call is recorded as completed; by an exception, as
    failed, and the exception goes on; broken off (a stream that the client closed), as cancelled with what was reported.
    """
    grant = authorize(
        token, model=model, input_tokens=input_tokens, max_output_tokens=max_output_tokens, request_id=request_id,
        environment=environment, scope=scope, region=region, stream=stream, deadline=deadline,
    )  # fmt: skip
    running = Call(grant)
    try:
        yield running
    except Exception as error:
        with _kept(grant):
            grant.fail(f"{type(error).__name__}: {error}", usage=running.reported)
        raise
    except BaseException:
        with _kept(grant):
            grant.release(running.reported)
        raise
    grant.settle(running.reported)


@contextmanager
def _kept(grant: Grant) -> Iterator[None]:
    """What the body raised goes on, also where it cannot be recorded: the call in flight is then lost at its deadline."""
    try:
        yield
    except (ControlPlaneError, DatabaseError, InterfaceError) as error:
        logger.error("the end of a call was not recorded: %s", error, extra={"call": str(grant.id)})


def authorize(
    token: str,
    *,
    model: str,
    input_tokens: int | None = None,
    max_output_tokens: int | None = None,
    request_id: str | None = None,
    environment: str | None = None,
    scope: str | None = None,
    region: str | None = None,
    stream: bool = False,
    deadline: timedelta = timedelta(minutes=10),
) -> Grant:
    """Decide about one call, and note it in flight.

    model: as the caller wrote it: a key of the catalog, an alias, a canonical id. input_tokens, max_output_tokens: what the
    call may use, kept on the request. request_id: the caller's, 1 to 190 characters, unique in the tenant; None makes one.
    environment, scope: what the key must be good for. region: where the call would go. deadline: after it the call is lost.
    Raises Denied, the first that applies of: a key's codes (tenants.errors.InvalidKey; 401, 403, 503), policy_unavailable
    and policy_invalid (503), the reasons about the model and model_not_allowed (403), limits_unavailable (503); or
    auditing.errors.DuplicateRequest (409), with the earlier request's id and status.
    """
    if request_id is not None and not _fits(request_id):
        raise Denied(
            "bad_request_id", 400, f"A request id has 1 to {MAX_REQUEST_ID} characters of Unicode text without NUL."
        )
    key = _verify(token, environment, scope)
    effective = _effective(key)
    decision = _decide(effective, key, model, region)
    hints = {"input_tokens": input_tokens, "max_output_tokens": max_output_tokens}
    try:
        id = InferenceRequest.objects.start(
            request_id=request_id, tenant=key.tenant_id, app=key.app_id, branch=key.branch_id, user=key.user_id,
            api_key=key.key_id, provider=decision.record.provider, model=str(decision.model), requested_model=model,
            deadline=deadline, stream=stream, time_zone=effective.time_zone,
            metadata={name: value for name, value in hints.items() if value is not None},
        )  # fmt: skip
    except (OperationalError, InterfaceError) as error:
        raise _unavailable("limits_unavailable") from error
    return Grant(id, key, str(decision.model), decision)


def _fits(request_id: str) -> bool:
    """Whether the log can keep a request id: text of the right length, without NUL and halves of characters."""
    whole = request_id.encode("utf-8", "replace").decode("utf-8") == request_id
    return 0 < len(request_id) <= MAX_REQUEST_ID and whole and "\x00" not in request_id


def _verify(token: str, environment: str | None, scope: str | None) -> VerifiedKey:
    try:
        found: VerifiedKey = APIKey.objects.verify(token, environment=environment, scope=scope)
        return found
    except InvalidKey as refused:
        # An unknown token and a malformed one look alike; only holders of a real secret learn more.
        message = "This API key is not valid." if refused.public_code == "invalid_api_key" else refused.message
        retry = getattr(refused, "retry_after", None)
        raise Denied(
            refused.public_code,
            refused.http_status,
            message,
            level=_STATES.get(refused.code, "key"),
            object=("key", refused.key_id),
            retry_after=retry,
        ) from refused


def _effective(key: VerifiedKey) -> EffectivePolicy:
    try:
        return Policy.objects.effective(key.tenant_id, key=key)
    except (OperationalError, InterfaceError) as error:
        raise _unavailable("policy_unavailable") from error
    except PolicyError as error:
        raise Denied(
            "policy_unavailable", 503, error.message, level="tenant", object=("tenant", key.tenant_id), retry_after=1
        ) from error


def _decide(effective: EffectivePolicy, key: VerifiedKey, model: str, region: str | None) -> Decision:
    try:
        decision = effective.decide_model(model, region=region)
    except (OperationalError, InterfaceError, CacheUnavailable) as error:
        raise _unavailable("policy_unavailable") from error
    if not decision:
        _refuse(decision, effective, key)
    if not key.allows_model(str(decision.model)):
        denied = Denied(
            "model_not_allowed", 403, f"This API key may not use {decision.model}. Use a key that allows it.",
            level="key", object=("key", key.key_id), decision=decision,
        )  # fmt: skip
        record(denied, key, model)
        raise denied
    return decision


def _refuse(decision: Decision, effective: EffectivePolicy, key: VerifiedKey) -> NoReturn:
    policy = effective.policies.get(decision.by) if decision.by else None
    denied = Denied(
        decision.reason,
        503 if decision.reason == "policy_invalid" else 403,
        decision.message,
        level=next(name for least, name in _LEVELS if policy.row.layer >= least) if policy else "",
        object=("policy", decision.by) if policy else ("model", None),
        policy_id=decision.by,
        policy_version=policy.row.version if policy else None,
        decision=decision,
    )
    record(denied, key, str(decision.request.get("model", "")))
    raise denied


def _unavailable(code: str) -> Denied:
    return Denied(code, 503, "The control plane's database does not answer. Try again in a second.", retry_after=1)
