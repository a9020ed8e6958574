from __future__ import annotations

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView

from controlplane.pages import caches, duties, groups
from controlplane.pages.dashboard import dashboard
from controlplane.pages.sign_in import sign_in, sign_out
from controlplane.pages.usage import explore

admin.site.site_header = admin.site.site_title = "Control Plane"
admin.site.site_url = None
admin.site.enable_nav_sidebar = False  # the theme has a menu of its own; the stock script would look for its parts

groups.register()
duties.register()


def closed(request: HttpRequest, rest: str) -> HttpResponse:
    """The admin's short cut to a row by its type and id loads it without asking its admin who may see it."""
    raise Http404


# Pages of the roof stand before the admin's own, so the dashboard answers the admin's root.
pages = [
    path("", admin.site.admin_view(dashboard), name="dashboard"),
    path("usage/", admin.site.admin_view(explore), name="usage"),
    path("caches/", admin.site.admin_view(caches.show), name="caches"),
    path("login/", sign_in, name="login"),
    path("logout/", sign_out, name="logout"),
    path("r/<path:rest>", admin.site.admin_view(closed), name="closed"),
]

urlpatterns = [
    path("admin/", include((pages, "controlplane"))),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="controlplane:dashboard")),
]
