"""Reports of errors: Django's own, with every frame's variables, and no token in them."""

from __future__ import annotations

from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter

from auditing.redaction import redact_text


class RedactedReporter(ExceptionReporter):
    """The page that DEBUG shows and the mail that administrators get. A key's public part stays, it is what people look for.

    `sensitive_variables` on each function that holds a token would cost the hot path, and miss those of a sibling.
    """

    def get_traceback_html(self) -> SafeString:
        return mark_safe(redact_text(super().get_traceback_html()))  # noqa: S308  only taken away from

    def get_traceback_text(self) -> SafeString:
        return mark_safe(redact_text(super().get_traceback_text()))  # noqa: S308  likewise
