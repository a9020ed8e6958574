from __future__ import annotations

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class User(AbstractBaseUser):
    """The portal's own users; the control plane's are tenants.User."""

    login = models.CharField(max_length=100, unique=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "login"


if settings.CONTROLPLANE["DATABASE"] == "default":

    class Workspace(models.Model):
        """Points into the control plane, which one shared database allows."""

        owner = models.ForeignKey(User, on_delete=models.CASCADE)
        app = models.ForeignKey("cp_tenants.App", on_delete=models.PROTECT, related_name="+")
