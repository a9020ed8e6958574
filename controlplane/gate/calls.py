"""One call of a model as a `with` block: let through, made by the body, and recorded however the body is left."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from django.db import DatabaseError, InterfaceError

from auditing.lifecycle import Reported, checked
from controlplane.core.errors import ControlPlaneError
from controlplane.gate import phases, refusing
from controlplane.gate.asking import Asked
from controlplane.gate.grants import Grant, admit

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """A call under way, in the body of `gate.call`.

    model: canonical id to call; max_output_tokens: to ask it for, at most, None = no cap. Both are those of the last `retry`.
    """

    grant: Grant
    reported: Reported | None = None
    over: bool = False

    @property
    def model(self) -> str:
        return self.grant.model

    @property
    def max_output_tokens(self) -> int | None:
        return self.grant.max_output_tokens

    @property
    def targets(self) -> list[str]:
        """Other models that this call may fall back to, in the order of the routing policies; for `retry`."""
        return self.grant.targets()

    def usage(self, **counts: Any) -> None:
        """What the provider reported: the fields of `auditing.lifecycle.Reported`. Called again, the last one counts.

        Raises auditing.errors.InvalidRow for counts that no call has; the call is then recorded as failed.
        """
        reported = Reported(**counts)
        checked(reported)
        self.reported = reported

    def first_token(self) -> None:
        """Note that the answer has begun."""
        self.grant.first_token()

    def retry(self, model: str | None = None, *, region: str | None = None, error: object = "") -> None:
        """Make the call again, with another model or (None) the same one: `call.model` is then what to call.

        The try so far is recorded as failed with `error`, and what it reserved is free again. Raises Denied, as
        `gate.authorize`, where the next one is refused.
        """
        self._fail(error or "It was tried again.")
        self.over = True
        self.grant = self.grant.next(model, region)
        self.reported, self.over = None, False

    def block(self, name: str) -> NoReturn:
        """The guardrail `name` stopped the call: it is recorded as failed, at the price of what was used so far, and
        Denied(guardrail_blocked) is raised."""
        grant = self.grant
        denied = refusing.of_guardrail(grant.effective, str(name)[:64])
        self.over = True
        with _kept(grant):
            grant.fail(denied.message, "guardrail_blocked", self.reported, billable=self.reported is not None)
        refusing.refuse(denied, grant.key, grant.asked.model)

    def _fail(self, error: object) -> None:
        with _kept(self.grant):
            self.grant.fail(_words(error), usage=self.reported)


def _words(error: object) -> str:
    try:
        return f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    except Exception:  # what the body raised matters more than that it cannot be told
        return type(error).__name__


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
    units: Mapping[str, Any] | None = None,
) -> Grant:
    """Decide about one call, reserve what it may use, and note it in flight.

    model: as the caller wrote it: a key of the catalog, an alias, a canonical id. input_tokens: that the call sends; None = as
    many as the model takes. max_output_tokens: that it asks for; None = as many as the model gives. request_id: the caller's,
    1 to 190 characters, unique in the tenant; None makes one. environment, scope: what the key must be good for. region: where
    the call would go. deadline: after it the call is lost. units: further fields of catalog.pricing.Usage as they will be, and
    `n`, for what is not sold by the token.

    Raises Denied, the first that applies: docs/gate.md has the codes. Raises auditing.errors.DuplicateRequest (409), with the
    earlier request's id and status, for a request id in use: of two callers with one id, only one may call the provider, so
    the second is not given the first one's grant.
    """
    asked = Asked(
        model=model, input_tokens=input_tokens, max_output_tokens=max_output_tokens, request_id=request_id,
        environment=environment, scope=scope, region=region, stream=stream, deadline=deadline,
        units={} if units is None else units,
    )  # fmt: skip
    return admit(phases.verify(token, asked), asked)


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
    units: Mapping[str, Any] | None = None,
) -> Iterator[Call]:
    """Make one call of a model; arguments and errors as for `authorize`.

    The body calls the provider and reports its usage. Left in order, the call is recorded as completed; by an exception, as
    failed, and the exception goes on; broken off (a stream that the client closed), as cancelled with what was reported.
    """
    running = Call(
        authorize(
            token, model=model, input_tokens=input_tokens, max_output_tokens=max_output_tokens, request_id=request_id,
            environment=environment, scope=scope, region=region, stream=stream, deadline=deadline, units=units,
        )
    )  # fmt: skip
    try:
        yield running
    except Exception as error:
        if not running.over:
            running._fail(error)
        raise
    except BaseException:
        if not running.over:
            with _kept(running.grant):
                running.grant.release(running.reported)
        raise
    if not running.over:
        running.grant.settle(running.reported)


@contextmanager
def _kept(grant: Grant) -> Iterator[None]:
    """What the body raised goes on, also where it cannot be recorded: the call in flight is then lost at its deadline."""
    try:
        yield
    except (ControlPlaneError, DatabaseError, InterfaceError) as error:
        logger.error("the end of a call was not recorded: %s", error, extra={"call": str(grant.id)})
