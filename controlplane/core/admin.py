"""Base classes of every admin of ours. `ModelAdmin` reads; one that writes says so. None deletes, none writes LogEntry."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode

from controlplane.core import display
from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError
from controlplane.core.forms import JSONField
from controlplane.core.references import ReferenceField

VERSION = "cp_version"
Action = Callable[..., HttpResponse | None]

MISSING = "Some of the chosen rows are not in this list any more. Nothing was changed; choose again."
AUDIT_LOG = "admin:cp_auditing_auditlog_timeline"


def version_of(row: Any) -> str:
    """When a row was last changed, as its form carries it; empty for a row that does not keep it."""
    changed_at = getattr(row, "updated_at", None)
    return changed_at.isoformat() if changed_at else ""


_TOKEN = re.compile(r"(cpk_(?:live|test)_[0-9A-Za-z]{12})_[0-9A-Za-z]{8,}|cpr_[0-9A-Za-z]{8,}", re.ASCII)


def _public_part(token: re.Match[str]) -> str:
    return token[1] or ""


def readable_address(request: HttpRequest) -> HttpResponseRedirect | None:
    """Where to send who asks what no page should be asked: with a NUL, which no value of the database can have, to the
    address without it; with a whole token to its public part, so that it stands in no page, link or later request. None:
    the address is fine.
    """
    asked = {name: values for name, values in request.GET.lists() if "\x00" not in "".join([name, *values])}
    public = {name: [_TOKEN.sub(_public_part, value) for value in values] for name, values in asked.items()}
    if len(asked) == len(request.GET) and public == asked:
        return None
    if public == asked:
        messages.warning(request, "A part of this address was not readable and has been left out.")
    else:
        messages.warning(
            request, "That was a whole token, and addresses are kept in logs. Rotate its key, or revoke it."
        )
    return HttpResponseRedirect(f"{request.path}?{urlencode(public, doseq=True)}")


class WholeRowForm(forms.ModelForm):  # type: ignore[type-arg]
    """Asks every constraint of the row, also one that names a field which this form shows and does not change.

    Django leaves those out, and the database would refuse the row where nobody can say why.
    """

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # the stubs omit it
        if self.errors:
            return
        try:
            self.instance.validate_constraints()
        except forms.ValidationError as refused:
            for name, errors in refused.error_dict.items():
                self.add_error(name if name in self.fields else None, errors)


class StaleForm(WholeRowForm):
    """The form of a row that somebody has changed meanwhile: it is not saved, and says what is stored now."""

    def clean(self) -> NoReturn:
        super().clean()
        stored = [f"{self.fields[name].label or name}: {self._stored(name)}" for name in self.changed_data]
        raise forms.ValidationError(
            [
                "Somebody has changed this meanwhile, and nothing was saved. Save again to replace it by what is below.",
                *(f"Stored now: {text[:200]}" for text in stored),
            ],
            code="stale_version",
        )

    def _stored(self, name: str) -> str:
        field = self.fields[name]
        value = field.prepare_value(self.get_initial_for_field(field, name))
        return "empty" if value in (None, "", [], {}) else str(value)


class ModelAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows and changes none. `empty_help`: what to do when there is no row yet."""

    actions_on_top = True
    show_full_result_count = False
    view_on_site = False
    empty_value_display = display.NOTHING
    has_history = True
    """Whether the audit log knows what became of a row; not of the rows of a log."""
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    formfield_overrides: ClassVar[Any] = {
        models.URLField: {"assume_scheme": "https"},
        models.JSONField: {"form_class": JSONField},
        # the stock picker of two lists needs a script and a wide screen
        models.ManyToManyField: {"widget": forms.CheckboxSelectMultiple},
    }
    empty_help: ClassVar[str] = ""
    change_form_template = "cp_core/object.html"
    every_row: ClassVar[str] = ""
    """Query of the list that hides no row, as "status=any": what an action on one row's page runs against."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def response_action(
        self, request: HttpRequest, queryset: models.QuerySet[Any], *args: Any, **kwargs: Any
    ) -> HttpResponse | None:
        """Ids that are none, which only a program sends, choose nothing; the database is not asked for them."""
        try:
            for chosen in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(chosen)
        except ValidationError:
            messages.error(request, MISSING)
            return HttpResponseRedirect(request.get_full_path())
        answer: HttpResponse | None = super().response_action(request, queryset, *args, **kwargs)
        return answer

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Nothing: the audit log has it, from the database, whoever wrote."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Nothing: likewise."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Nothing: likewise."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """An action that this person may not run is 403, as its button is absent."""
        known = {name for _, name, _ in self._get_base_actions()}  # type: ignore[attr-defined]  # the stubs omit it
        if known & set(request.POST.getlist("action")) - self.get_actions(request).keys():
            raise PermissionDenied
        return readable_address(request) or super().changelist_view(request, extra_context)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """History is the audit log of the object."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if self.get_object(request, unquote(object_id)) is None:
            raise Http404
        try:
            url = reverse(AUDIT_LOG)
        except NoReverseMatch:
            return HttpResponseRedirect("../change/")
        about = {"resource": f"{self.opts.db_table}:{unquote(object_id)}", "window": "all"}
        return HttpResponseRedirect(f"{url}?{urlencode(about)}")

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> NoReturn:
        """Not found is 404, the same whether the row is unknown or another's; Django would redirect with a message."""
        raise Http404

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A related row with a short name is typed, not picked from a list of all."""
        target = db_field.remote_field.model
        if hasattr(target, "reference"):
            kwargs.setdefault("form_class", ReferenceField)
            kwargs.setdefault("queryset", target._default_manager.all())
            return db_field.formfield(**kwargs)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        obj = kwargs.get("obj")
        context["object_actions"] = self.object_actions(request, obj) if obj is not None else []
        context["changelist_url"] = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        context |= {"every_row": self.every_row, "has_history": self.has_history}
        context["version_field"], context["version"] = VERSION, version_of(obj)
        return super().render_change_form(request, context, *args, **kwargs)

    def object_actions(self, request: HttpRequest, obj: models.Model) -> list[tuple[str, str]]:
        """(name, label) of the actions offered on the page of one row; those for which it is in the right state."""
        return [
            (name, description % {"verbose_name_plural": self.opts.verbose_name_plural})
            for name, (function, _, description) in self.get_actions(request).items()
            if getattr(function, "offered", lambda row: True)(obj)
        ]


class WritableModelAdmin(ModelAdmin):
    """Adds and changes rows, by permission. Rows are closed by actions with a reason, not deleted.

    The form of a row with `updated_at` carries it: of two people who change the row at once, the second is told what the
    first has stored, and nothing is lost silently.
    """

    save_on_top = False
    add_form: Any = None
    """The form of a new row, where it is another than `form`."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """A row that is about to be changed is locked, so that the version compared is the version overwritten."""
        found = super().get_object(request, object_id, from_field)
        if found is not None and request.method == "POST" and transaction.get_connection(conf.DATABASE).in_atomic_block:
            self.model._base_manager.select_for_update().filter(pk=found.pk).values_list("pk").get()
            found = super().get_object(request, object_id, from_field)
        return found

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        base = kwargs.get("form") or (self.add_form if obj is None and self.add_form else self.form)
        given = request.POST.get(VERSION)
        stale = obj is not None and given is not None and given != version_of(obj)
        rule = StaleForm if stale else WholeRowForm
        kwargs["form"] = base if issubclass(base, rule) else type(base.__name__, (rule, base), {})
        return super().get_form(request, obj, change=change, **kwargs)


def _refused(rows: list[Any], request: HttpRequest, reason: str, perform: Callable[..., object]) -> str:
    """Act on all of the rows or on none; why it was none, "" if it was done."""
    try:
        if not reason.strip():
            raise ControlPlaneError("reason_required", "Say why: this is kept in the audit log.")
        with transaction.atomic(using=conf.DATABASE):
            for row in rows:
                perform(row, request, reason)
    except ControlPlaneError as refused:
        return refused.message
    return ""


def confirmed_action(
    label: str,
    *,
    permission: str,
    command: str,
    past: str,
    explain: str,
    perform: Callable[[Any, HttpRequest, str], object],
    offered: Callable[[Any], bool] = lambda row: True,
    preview: Callable[[Sequence[Any]], list[tuple[str, str]]] | None = None,
    danger: bool = False,
) -> Action:
    """An action on ticked rows, or on one row's page, that asks for a reason on a page of its own and then acts.

    permission: "change", or one of the model's own, as "revoke". command: the management command that does the same, "" if none.
    past: "suspended", for the message. explain: what will happen, one sentence. perform: called with each row, the request
    and the reason. offered: whether a row is in the right state. preview: what stops, as (label, value) pairs; where every row's
    name is a label, the names are not listed again.
    """

    def run(modeladmin: ModelAdmin, request: HttpRequest, queryset: models.QuerySet[Any]) -> HttpResponse | None:
        rows = list(queryset[:101])
        if len(rows) > 100:
            messages.error(
                request,
                "At most 100 rows at a time." + (f" For more there is the command {command}." if command else ""),
            )
            return None
        if not rows or len(rows) < len(set(request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))):
            messages.error(request, MISSING)  # unknown, another's, or filtered away: the same words for all
            return None
        reason = request.POST.get("cp_reason")
        error = ""
        if reason is not None:
            error = _refused(rows, request, reason, perform)
            if not error:
                names = ", ".join(str(row) for row in rows[:3]) + (
                    f" and {len(rows) - 3} more" if len(rows) > 3 else ""
                )
                messages.success(request, f"{names}: {past}.")
                return None
        told = preview(rows) if preview else []
        named = {str(row) for row in rows} <= {name for name, _ in told}
        context = {
            **modeladmin.admin_site.each_context(request),
            "title": label,
            "opts": modeladmin.opts,
            "rows": rows,
            "explain": explain,
            "preview": told,
            "named": named,
            "error": error,
            "reason": reason or "",
            "danger": danger,
            "command": command,
            "action": request.POST["action"],
            "selected": helpers.ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "cp_core/confirm.html", context, status=422 if error else 200)

    run.short_description = label  # type: ignore[attr-defined]
    run.allowed_permissions = (permission,)  # type: ignore[attr-defined]
    run.offered = offered  # type: ignore[attr-defined]
    run.command = command  # type: ignore[attr-defined]
    run.__name__ = label.lower().replace(" ", "_")
    return run
