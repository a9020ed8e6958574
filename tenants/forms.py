from __future__ import annotations

from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import authenticate
from django.core.exceptions import ValidationError
from django.views.decorators.debug import sensitive_variables

from tenants.backends import MAX_NAME
from tenants.errors import SignInRefused


class SignInForm(AdminAuthenticationForm):
    """Asks for what TenantBackend understands; one message for every failure, so that nobody learns which part was wrong.

    refused: why nothing was tried, for the answer's status; None where it was.
    """

    error_messages = {
        **AdminAuthenticationForm.error_messages,
        "invalid_login": "Nobody signs in to this admin with these. Check the e-mail or user name (or organisation/user name) "
        "and the password; capitals matter in the password.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.refused: SignInRefused | None = None
        self.fields["username"].label = "E-mail or user name"
        self.fields["username"].widget.attrs["maxlength"] = MAX_NAME

    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        """Who is no operator is no different from who types a wrong password: in words, in time and in the count."""
        name, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if name is not None and password:
            try:
                self.user_cache = authenticate(self.request, username=name, password=password, staff=True)
            except SignInRefused as refused:
                self.refused = refused
                raise ValidationError(refused.message, code=refused.code) from refused
            if self.user_cache is None:
                raise self.get_invalid_login_error()
            self.confirm_login_allowed(self.user_cache)
        return self.cleaned_data
