from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from controlplane.pages.dashboard import dashboard

admin.site.site_header = admin.site.site_title = "Control Plane"
admin.site.site_url = None
admin.site.enable_nav_sidebar = False  # the theme has a menu of its own; the stock script would look for its parts

# Pages of the roof stand before the admin's own, so the dashboard answers the admin's root.
pages = [path("", admin.site.admin_view(dashboard), name="dashboard")]

urlpatterns = [
    path("admin/", include((pages, "controlplane"))),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="controlplane:dashboard")),
]
