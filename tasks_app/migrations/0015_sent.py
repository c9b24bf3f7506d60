"""What the client itself sent of those parameters that not every model heeds."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0013_speed")]

    operations = [
        migrations.AddField(
            model_name="task",
            name="sent",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=32),
                blank=True,
                default=list,
                help_text="Parameters of the client's own, which a model that can't heed them refuses.",
                size=None,
            ),
        ),
    ]
