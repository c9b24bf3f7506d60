"""A row may be the model that requests get which name none."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0015_sent")]

    operations = [
        migrations.AddField(
            model_name="diffusionmodel",
            name="is_default",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Requests that name no model get this one; where none is, DEFAULT_MODEL_ID.",
                verbose_name="default",
            ),
        ),
        migrations.AlterField(
            model_name="diffusionmodel",
            name="model_id",
            field=models.CharField(
                help_text="A model of MODELS_DIR or an id on the Hub.",
                max_length=255,
                unique=True,
                verbose_name="model",
            ),
        ),
        migrations.AddConstraint(
            model_name="diffusionmodel",
            constraint=models.UniqueConstraint(
                fields=["is_default"],
                condition=Q(is_default=True),
                name="model_default_unique",
                violation_error_message="Another model is the default.",
            ),
        ),
    ]
