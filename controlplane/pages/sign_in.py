"""Signing in to the admin and out of it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.cache import never_cache

from auditing.context import audit_context
from controlplane.core.conf import conf
from tenants import sign_in as events
from tenants.forms import SignInForm
from tenants.models import User


class SignInView(LoginView):
    """The stock page with our form. Too many failures are 429, too many at once 503, with Retry-After."""

    template_name = "admin/login.html"
    authentication_form = SignInForm

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        page = {"title": "Sign in", "subtitle": None, "app_path": self.request.get_full_path()}
        return {**super().get_context_data(**kwargs), **admin.site.each_context(self.request), **page}

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        with audit_context(actor=user, **events.about(self.request)):
            answer = super().form_valid(form)
            events.record_login(user)
        return answer

    def form_invalid(self, form: Any) -> HttpResponse:
        answer = super().form_invalid(form)
        if form.refused is not None:
            answer.status_code = form.refused.http_status
            answer["Retry-After"] = form.refused.retry_after
        return answer


_view = SignInView.as_view()


@transaction.non_atomic_requests(using=conf.DATABASE)
def sign_in(request: HttpRequest) -> HttpResponseBase:
    """Outside a transaction: what is counted and recorded is kept at once, and none is open while a password is hashed."""
    if request.method == "GET" and admin.site.has_permission(request):
        return HttpResponseRedirect(reverse("controlplane:dashboard"))
    return _view(request)


@never_cache
def sign_out(request: HttpRequest) -> HttpResponse:
    if request.method == "POST" and isinstance(request.user, User):
        events.record_logout(request.user)
    return admin.site.logout(request)
