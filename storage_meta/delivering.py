"""Sends events to the hooks that asked for them: at least once, in no order, and no hook waits for another.

An event is claimed for a minute, sent outside any transaction, and then its attempt and its new state are written. A worker
that dies between leaves an event whose minute ends, and the next worker sends it again under the same id.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from auditing.context import Actor, audit_context
from controlplane.core import ids
from controlplane.core.conf import conf
from storage_meta import signing
from storage_meta.errors import InvalidArgument, NoSuchEvent
from storage_meta.models import HookExecution, StorageEvent, StorageHook
from storage_meta.sending import Answer, Client
from tenants.models import Tenant

LEASE = timedelta(seconds=60)
AT_ONCE = 4
"""Events of one hook that are under way at a time, by all workers together."""

IN_FLIGHT = 100
"""Events that one worker has under way at a time; each has a thread, which waits."""

WAITS_S = (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600)
"""Seconds before the second attempt, the third …; after the one behind the last an event is dead. Each ± 20 %."""

SPREAD = 0.2
LONGEST_RETRY_AFTER_S = 24 * 3600
GONE = 410
LOOKS_AGAIN_S = 1.0
"""While something is under way: seconds until the next look at what is due meanwhile."""

_SECRETS: Any = StorageHook._meta.get_field("secrets")
WORKER = Actor("system", "hooks", "hook worker")

# Locked, so that two workers do not both count what a hook has under way; one that is locked is another's to serve now. Those
# with the least under way come first: hooks that answer slowly cannot take all threads for themselves.
_HOOKS = """
SELECT h.id FROM cp_storage_meta_storagehook h
JOIN cp_tenants_tenant t ON t.id = h.tenant_id AND t.deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT e.next_attempt_at FROM cp_storage_meta_storageevent e
    WHERE e.hook_id = h.id AND e.state = 'pending' AND e.next_attempt_at <= %(now)s ORDER BY e.next_attempt_at LIMIT 1
) oldest
CROSS JOIN LATERAL (
    SELECT count(*) AS number FROM (
        SELECT FROM cp_storage_meta_storageevent e
        WHERE e.hook_id = h.id AND e.state = 'pending' AND e.next_attempt_at > %(now)s AND e.next_attempt_at <= %(until)s
            AND e.leased_until > %(now)s
        LIMIT %(at_once)s) leased
) under_way
WHERE h.enabled AND under_way.number < %(at_once)s
ORDER BY under_way.number, oldest.next_attempt_at LIMIT %(room)s
FOR NO KEY UPDATE OF h SKIP LOCKED
"""

# A statement of its own: it sees what another worker leased before it let the hooks go. An event that is leased is due again
# when the lease ends, which is all that a dead worker leaves to do.
_CLAIM = """
WITH due AS MATERIALIZED (
    SELECT e.id FROM unnest(%(hooks)s::uuid[]) WITH ORDINALITY AS hook(id, place)
    CROSS JOIN LATERAL (
        SELECT e.id, e.next_attempt_at FROM cp_storage_meta_storageevent e
        WHERE e.hook_id = hook.id AND e.state = 'pending' AND e.next_attempt_at <= %(now)s
        ORDER BY e.next_attempt_at
        LIMIT %(at_once)s - (SELECT count(*) FROM (
            SELECT FROM cp_storage_meta_storageevent l
            WHERE l.hook_id = hook.id AND l.state = 'pending' AND l.next_attempt_at > %(now)s
                AND l.next_attempt_at <= %(until)s AND l.leased_until > %(now)s
            LIMIT %(at_once)s) leased)
        FOR UPDATE SKIP LOCKED
    ) e
    ORDER BY hook.place LIMIT %(room)s
)
UPDATE cp_storage_meta_storageevent e SET leased_until = %(until)s, next_attempt_at = %(until)s
FROM due, cp_storage_meta_storagehook h WHERE e.id = due.id AND h.id = e.hook_id
RETURNING e.id, e.hook_id, h.name, e.tenant_id, e.event_type, e.object_key, e.payload, e.attempts + 1, h.url, h.secrets
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """An event that is this worker's until its lease ends, and all that is needed to send it. attempt: from 1."""

    id: UUID
    hook_id: UUID
    hook_name: str
    tenant_id: UUID
    event_type: str
    object_key: str
    payload: Any
    attempt: int
    url: str
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of an event after an attempt. wait_s: until the next; 0 where there is none."""

    state: str
    wait_s: float = 0.0


def step_after(attempt: int, answer: Answer, chance: float) -> Step:
    """What follows from the answer to an attempt (from 1). chance: 0 to 1, where in the ± 20 % the wait lies.

    Retry-After replaces the wait, within five seconds and a day: an endpoint cannot make us hurry, nor forget.
    """
    if answer.ok:
        return Step(StorageEvent.State.DONE)
    if answer.status == GONE or attempt > len(WAITS_S):
        return Step(StorageEvent.State.DEAD)
    if answer.retry_after_s is not None:
        return Step(StorageEvent.State.PENDING, min(max(answer.retry_after_s, WAITS_S[0]), LONGEST_RETRY_AFTER_S))
    return Step(StorageEvent.State.PENDING, WAITS_S[attempt - 1] * (1 - SPREAD + 2 * SPREAD * chance))


class Courier:
    """Claims, sends and writes down. One thread drives it; those that wait for answers touch no database.

    client: what sends; clock: the present; chance: numbers from 0 to 1.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        clock: Callable[[], datetime] = ids.now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client, self._clock, self._chance = client or Client(), clock, chance
        self._answers: SimpleQueue[tuple[Claimed, datetime, Answer]] = SimpleQueue()
        self.under_way = self.sent = 0

    def run(self, now: datetime) -> bool:
        """The worker's duty: send what is due for about a second. True: there is something under way, come again at once.

        What is under way then goes on, and its answers are written by the next run: a slow hook holds up none of the others.
        """
        until = monotonic() + LOOKS_AGAIN_S
        while True:
            self.send_due()
            if not self.under_way:
                return False
            self.write_answers(LOOKS_AGAIN_S)
            if monotonic() >= until:
                return True

    def follow(self, stopped: Callable[[], bool], wait: Callable[[float], object] = sleep) -> int:
        """Send what is due, again and again until `stopped`; then wait for what is under way. Returns how many were sent."""
        while not stopped():
            if not self.run(self._clock()):
                wait(LOOKS_AGAIN_S)
        while self.under_way:
            self.write_answers(LOOKS_AGAIN_S)
        return self.sent

    def send_due(self, limit: int = IN_FLIGHT) -> int:
        """Claim at most so many events and begin to send them; returns how many."""
        claimed = claim(min(limit, IN_FLIGHT - self.under_way), self._clock())
        for event in claimed:
            self.under_way += 1
            self.sent += 1
            Thread(target=self._send, args=[event], name="cp-hook", daemon=True).start()
        return len(claimed)

    def write_answers(self, wait_s: float) -> None:
        """Wait so long for an answer, and write down all that are there."""
        try:
            answers = [self._answers.get(timeout=wait_s)]
            while True:
                answers.append(self._answers.get_nowait())
        except Empty:
            pass
        if not answers:
            return
        self.under_way -= len(answers)  # whatever becomes of the writing: unwritten ones are sent again
        finish(answers, self._clock(), self._chance)

    def _send(self, event: Claimed) -> None:
        at = self._clock()
        try:
            answer = send(event, at, self._client)
        except Exception as error:
            answer = Answer(error=f"It could not be sent: {type(error).__name__}.")
        self._answers.put((event, at, answer))


def deliver_due(limit: int = 100, now: datetime | None = None, *, client: Client | None = None) -> int:
    """Send what is due, at most `limit` events, and wait for the answers; returns how many were tried.

    now: the present (aware), None: that of the clock. Raises InvalidArgument for what is neither. In a transaction it raises
    RuntimeError: what it claims would be held until that ends, and nobody else could see it.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidArgument(message=f"limit is {limit!r:.40}. Use a whole number from 1.")
    if now is not None and (not isinstance(now, datetime) or now.tzinfo is None):
        raise InvalidArgument(message="now is no instant with a time zone. Leave it out, or give one.")
    given = now
    courier = Courier(client, clock=(lambda: given) if given else ids.now)
    while True:
        if courier.sent < limit:
            courier.send_due(limit - courier.sent)
        if not courier.under_way:
            return courier.sent
        courier.write_answers(LOOKS_AGAIN_S)


def resend(tenant: Tenant, event_ids: Sequence[UUID], at: datetime | None = None) -> int:
    """Have these events of a tenant sent again by the worker, whatever became of them; returns how many.

    Raises NoSuchEvent where one of them is none of the tenant's, InvalidArgument where its hook is disabled or a worker has it at
    this moment; then none is sent.
    """
    wanted = set(event_ids)
    with transaction.atomic(using=conf.DATABASE):
        rows = StorageEvent.objects.for_tenant(tenant).filter(pk__in=wanted)
        if len(found := list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))) < len(wanted):
            missing = min(wanted - set(found))
            raise NoSuchEvent(message=f"There is no event {missing} of {tenant.slug}. The list of events shows them.")
        count: int = rows.resend(at)
        if count < len(wanted):
            raise InvalidArgument(
                message="One of these is being sent at this moment, or its hook is disabled. Enable the hook, or wait a minute."
            )
    return count


def claim(room: int, at: datetime) -> list[Claimed]:
    """Lease events that are due: at most `room`, of each hook no more than AT_ONCE with those under way. Commits."""
    if room < 1:
        return []
    known: dict[str, Any] = {"now": at, "until": at + LEASE, "at_once": AT_ONCE, "room": room}
    with (
        transaction.atomic(using=conf.DATABASE, durable=True),
        connections[conf.DATABASE].cursor() as cursor,
    ):
        cursor.execute(_HOOKS, known)
        hooks = [id for (id,) in cursor.fetchall()]
        if not hooks:
            return []
        cursor.execute(_CLAIM, {**known, "hooks": hooks})
        rows = cursor.fetchall()
    return [
        Claimed(id, hook_id, name, tenant_id, event_type, key, _json(payload), attempt, url, _secrets(encrypted))
        for id, hook_id, name, tenant_id, event_type, key, payload, attempt, url, encrypted in rows
    ]


def send(event: Claimed, at: datetime, client: Client) -> Answer:
    """One attempt, signed as of `at`. Touches no database."""
    if not event.secrets:
        return Answer(error="The hook has no secret that can be read, and nothing is sent unsigned. Rotate its secret.")
    body = json.dumps(event.payload, ensure_ascii=False, separators=(",", ":"))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "llm-controlplane-hooks/1",
        **signing.headers(str(event.id), at, body, event.secrets),
    }
    return client.post(event.url, body.encode(), headers)


def finish(
    answers: Sequence[tuple[Claimed, datetime, Answer]], at: datetime, chance: Callable[[], float] = random.random
) -> None:
    """Write attempts and new states, in one transaction; then disable hooks that are gone.

    An event that somebody else has finished meanwhile, because our lease ended, or that is not there any more, stays as it is.
    """
    with transaction.atomic(using=conf.DATABASE):
        ours = [(event, began, answer) for event, began, answer in answers if _step(event, at, answer, chance())]
        HookExecution.objects.bulk_create(_execution(*parts) for parts in ours)
    for event, _, answer in ours:
        if answer.status == GONE:
            _disable(event, at)


def _step(event: Claimed, at: datetime, answer: Answer, chance: float) -> bool:
    step = step_after(event.attempt, answer, chance)
    unfinished = StorageEvent.objects.filter(
        pk=event.id, state=StorageEvent.State.PENDING, attempts=event.attempt - 1, leased_until__isnull=False
    )
    return bool(
        unfinished.update(
            state=step.state,
            attempts=event.attempt,
            next_attempt_at=at + timedelta(seconds=step.wait_s),
            leased_until=None,
        )
    )


def _execution(event: Claimed, began: datetime, answer: Answer) -> HookExecution:
    return HookExecution(
        tenant_id=event.tenant_id,
        hook_name=event.hook_name,
        event_id=event.id,
        attempt=event.attempt,
        event_type=event.event_type,
        object_key=event.object_key,
        execution_time=timedelta(seconds=answer.seconds),
        success=answer.ok,
        status_code=answer.status,
        error_message=answer.error,
        response=answer.body,
        payload=event.payload,
        created_at=began,
    )


def _disable(event: Claimed, at: datetime) -> None:
    reason = f"It answered 410 Gone at {ids.iso(at)}."
    with audit_context(actor=WORKER, reason=reason):
        StorageHook.objects.filter(pk=event.hook_id, enabled=True).update(enabled=False, disabled_reason=reason)


def _secrets(encrypted: str) -> tuple[str, ...]:
    """Empty where no key of ours reads them: that is this hook's trouble, and not that of the others."""
    try:
        return tuple(_SECRETS.from_db_value(encrypted).split())
    except ImproperlyConfigured:
        return ()


def _json(value: Any) -> Any:
    """Django has psycopg return jsonb of raw statements as text."""
    return json.loads(value) if isinstance(value, str) else value
