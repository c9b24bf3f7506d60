"""Whether weights in prompts are heeded, and long ones are read to their end."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0020_uploads")]

    operations = [
        migrations.AddField(
            model_name="diffusionmodel",
            name="prompt_weighting",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Read (words:1.3), (words) and [words] as weights, and prompts beyond 77 tokens to their end. For Stable Diffusion 1, 2, XL and latent consistency models. Changes the pictures of such prompts only.",
            ),
        ),
    ]
