from __future__ import annotations

from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm


class SignInForm(AdminAuthenticationForm):
    """Asks for what TenantBackend understands; one message for every failure, so that nobody learns which part was wrong."""

    error_messages = {
        **AdminAuthenticationForm.error_messages,
        "invalid_login": "Nobody signs in to this admin with these. Check the e-mail or user name (or organisation/user name) "
        "and the password; capitals matter in the password.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "E-mail or user name"
