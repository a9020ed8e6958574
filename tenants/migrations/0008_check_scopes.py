from __future__ import annotations

from django.db import migrations, models
from django.db.models.functions import Cast
from django.db.models.lookups import Regex

SCOPES = r'^\{(([a-z][a-z0-9_.:-]{0,63}|"null")(,([a-z][a-z0-9_.:-]{0,63}|"null"))*)?\}$'


class Migration(migrations.Migration):
    dependencies = [
        ("cp_tenants", "0007_count_sign_ins"),
    ]

    operations = [
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=Regex(Cast("scopes", models.TextField()), SCOPES),
                name="cp_tenants_apikey_scopes_have_their_shape",
                violation_error_code="bad_scope",
                violation_error_message="A scope has lower-case letters, digits and _.:- after a letter, at most 64 characters; "
                "64 scopes at most.",
            ),
        ),
    ]
