from __future__ import annotations

from django.contrib import admin
from django.urls import path

admin.site.site_header = admin.site.site_title = "Control Plane"
admin.site.site_url = None
admin.site.enable_nav_sidebar = False  # the theme has a menu of its own; the stock script would look for its parts

urlpatterns = [path("admin/", admin.site.urls)]
