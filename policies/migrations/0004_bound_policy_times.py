from __future__ import annotations

import datetime

from django.db import migrations, models

import policies.columns


class Migration(migrations.Migration):
    dependencies = [("cp_policies", "0003_create_limits")]

    operations = [
        migrations.AddConstraint(
            model_name="policy",
            constraint=policies.columns.DatabaseCheck(
                condition=models.Q(
                    models.Q(
                        ("valid_from__isnull", True),
                        models.Q(
                            ("valid_from__gte", datetime.datetime(2, 1, 1, 0, 0, tzinfo=datetime.UTC)),
                            ("valid_from__lt", datetime.datetime(9999, 1, 1, 0, 0, tzinfo=datetime.UTC)),
                        ),
                        _connector="OR",
                    ),
                    models.Q(
                        ("valid_until__isnull", True),
                        models.Q(
                            ("valid_until__gte", datetime.datetime(2, 1, 1, 0, 0, tzinfo=datetime.UTC)),
                            ("valid_until__lt", datetime.datetime(9999, 1, 1, 0, 0, tzinfo=datetime.UTC)),
                        ),
                        _connector="OR",
                    ),
                ),
                name="cp_policies_policy_within_calendar",
                violation_error_message="A time lies in the years 2 to 9998.",
            ),
        ),
    ]
