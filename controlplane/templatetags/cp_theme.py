"""What the theme's templates need beyond the stock tags. Only templates of the roof load it."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.contrib.admin import ListFilter, SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.template import Context
from django.template.loader import get_template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.menu import Group, groups_for

register = template.Library()

_STOCK_FILTER = "admin/filter.html"


@register.simple_tag
def cp_icon(name: str) -> SafeString:
    """A decorative icon of the sprite, in the colour of the text around it. name: an id in icons.svg."""
    sprite = static("controlplane/icons.svg")
    return format_html('<svg class="cp-icon" aria-hidden="true"><use href="{}#{}"></use></svg>', sprite, name)


@register.simple_tag(takes_context=True)
def cp_menu(context: Context) -> list[Group]:
    request = context.get("request")
    return groups_for(request) if request is not None else []


@register.simple_tag
def cp_environment() -> dict[str, str]:
    """Where one is, in words and in a tone: mistakes in production begin with thinking it is another place."""
    name = str(getattr(settings, "CONTROLPLANE_ENV", "") or "development")
    tone = {"production": "cp-bad", "test": "cp-warn"}.get(name, "cp-info")
    return {"name": name, "tone": tone}


@register.simple_tag
def cp_filter(changelist: ChangeList, spec: ListFilter) -> str:
    """One list filter as a pill; a filter that brings a template of its own keeps it."""
    choices: list[Any] = list(spec.choices(changelist))
    own = spec.template != _STOCK_FILTER
    chosen = next((choice for choice in choices if choice.get("selected")), None)
    # A filter of values begins with "All"; one that always has a value, as a window of time, is always on.
    on = spec.value() is not None if isinstance(spec, SimpleListFilter) else bool(choices) and chosen is not choices[0]
    return get_template(spec.template if own else "controlplane/filter.html").render(
        {"title": spec.title, "choices": choices, "spec": spec, "chosen": chosen if on else None}
    )


@register.simple_tag
def cp_wider(changelist: ChangeList) -> dict[str, Any] | None:
    """The next wider window of time that the list offers, as a choice of its filter; None where there is none."""
    for spec in changelist.filter_specs:
        if isinstance(spec, SimpleListFilter) and spec.parameter_name == "window":
            choices: list[Any] = list(spec.choices(changelist))
            chosen = next((at for at, choice in enumerate(choices) if choice.get("selected")), len(choices))
            return next(iter(choices[chosen + 1 :]), None)
    return None
